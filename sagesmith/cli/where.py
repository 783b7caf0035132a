"""`sagesmith where`: find the code behind a word that a user knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

import sagesmith
from sagesmith.cli import fail, print_json

_ROOT = Path(sagesmith.__file__).parent.parent


@click.command("where")
@click.argument("word")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of places.")
def command(word: str, as_json: bool) -> None:
    """Print the file and line behind an operation, an algorithm or image, a content type or a metric.

    \b
    Examples:
      sagesmith where CreateTrainingJob
      sagesmith where sagemaker-xgboost
      sagesmith where text/libsvm
      sagesmith where validation:auc
    """
    places = sorted(set(find(word)))
    if not places:
        raise fail(f"nothing here is called {word!r}: try an operation, algorithm, image, content type or metric")
    if as_json:
        print_json(places)
        return
    for place in places:
        click.echo(place)


def find(word: str) -> Iterator[str]:
    """Every `file:line` that `word` leads to."""
    yield from _operations(word)
    yield from _algorithms(word)
    yield from _formats(word)


def _operations(word: str) -> Iterator[str]:
    from sagesmith.core.operation import OPERATIONS
    from sagesmith.services import load_rooms

    load_rooms()
    for (_, name), operation in OPERATIONS.items():
        if word.lower() == name.lower():
            yield _place(operation.function)


def _algorithms(word: str) -> Iterator[str]:
    from sagesmith.algorithms import registry

    for algorithm in registry().values():
        names = {algorithm.name, algorithm.__name__, *algorithm.images, *(m.name for m in algorithm.metrics)}
        if word in names:
            yield _place(algorithm)
        for parameter in algorithm.hyperparameters.values():
            if word == f"{algorithm.name}.{parameter.name}":
                yield _place(algorithm)


def _formats(word: str) -> Iterator[str]:
    from sagesmith.formats import reader_of
    from sagesmith.formats.batch import DataError

    try:
        yield _place(reader_of(word))
    except (DataError, LookupError):
        return


def _place(thing: Callable[..., Any] | type) -> str:
    thing = inspect.unwrap(thing)  # rooms may wrap their operations, as S3's do
    file = Path(inspect.getsourcefile(thing) or "").resolve()
    line = inspect.getsourcelines(thing)[1]
    shown = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file
    return f"{shown}:{line}"
