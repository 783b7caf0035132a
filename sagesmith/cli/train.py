"""`sagesmith train`: train a built-in algorithm on local files, without a server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import sagesmith
from sagesmith.algorithms import by_name
from sagesmith.algorithms.base import Algorithm
from sagesmith.algorithms.run import Run
from sagesmith.cli import fail, print_json
from sagesmith.formats.batch import DataError
from sagesmith.formats.channel import Channel

MARKER = ".sagesmith.json"  # which algorithm a model folder belongs to; a dot file, which model loaders skip

# A job of these takes the first column of text/csv for a label, as in SageMaker, unless it is told label_size=0. Here,
# where nobody has said a content type, a file of rows is taken for what it looks like.
UNLABELLED = ("clusterer", "transformer")

_SUFFIXES = {
    ".csv": "text/csv",
    ".libsvm": "text/libsvm",
    ".svm": "text/libsvm",
    ".parquet": "application/x-parquet",
    ".pbr": "application/x-recordio-protobuf",
    ".jsonl": "application/jsonlines",
    ".rec": "application/x-recordio",
    ".manifest": "application/x-recordio",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}


class TerminalRun(Run):
    """A run whose progress is a bar and whose metric lines go to the terminal, above it."""

    def __init__(self, progress: Progress, console: Console, quiet: bool) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task("training", total=None)
        self._console = console
        self._quiet = quiet

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        if not self._quiet:
            self._console.print(message % arguments if arguments else message, markup=False, highlight=False)

    def metric_line(self, line: str) -> None:
        self.log("%s", line)

    def progress(self, done: int, total: int, records_per_second: float | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)


class AlgorithmGroup(click.Group):
    """One subcommand per algorithm, its options made from the declared hyperparameters."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from sagesmith.algorithms import registry

        return sorted(registry())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        try:
            return _command_for(by_name(name))
        except LookupError as error:
            raise click.UsageError(str(error), ctx) from None


@click.group("train", cls=AlgorithmGroup)
def command() -> None:
    """Train a built-in algorithm on local files, without a server.

    Options are the algorithm's hyperparameters, with dashes for underscores: see `sagesmith train ALGORITHM --help`.

    \b
    Examples:
      sagesmith train xgboost --objective binary:logistic --num-round 100 --train data.csv --model-dir out
      sagesmith train xgboost --num-round 50 --train train/ --validation validation.csv --model-dir out --json
    """


def _command_for(algorithm: type[Algorithm]) -> click.Command:
    options: list[click.Parameter] = [
        click.Option(
            [f"--{spec.name}"], type=click.Path(exists=True, path_type=Path), help=_channel_help(spec.required)
        )
        for spec in algorithm.channels
    ]
    options += [
        click.Option(["--content-type"], help="Content type of the data (default: by file name)."),
        click.Option(
            ["--model-dir"],
            type=click.Path(file_okay=False, path_type=Path),
            required=True,
            help="Where the model goes.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object at the end, nothing else."),
        click.Option(["--quiet"], is_flag=True, help="No log lines, only the progress bar."),
    ]
    for parameter in algorithm.hyperparameters.values():
        allowed = parameter.interval or ", ".join(map(str, parameter.choices))
        default = "required" if parameter.required else f"default {parameter.default}"
        notes = [parameter.type_name, allowed, "" if parameter.default is None else default]
        note = f"{parameter.doc} [{'; '.join(filter(None, notes))}]"
        flag = "--" + parameter.name.replace("_", "-").lstrip("-")
        options.append(click.Option([flag, f"hp_{parameter.attribute}"], help=note, metavar="VALUE"))

    def run(**values: Any) -> None:
        _train(algorithm, values)

    summary = (algorithm.__doc__ or "").strip().split("\n", 1)[0]
    return click.Command(algorithm.name, params=options, callback=run, help=summary)


def _channel_help(required: bool) -> str:
    return "File or folder of the channel" + (" (required)." if required else ".")


def _train(algorithm: type[Algorithm], values: dict[str, Any]) -> None:
    given = {name: values[f"hp_{name}"] for name in algorithm.hyperparameters}
    hyperparameters = {
        algorithm.hyperparameters[name].name: value for name, value in given.items() if value is not None
    }
    folder: Path = values["model_dir"]
    console = Console(stderr=True, quiet=values["as_json"])
    try:
        instance = algorithm.from_strings(hyperparameters)
        channels = _channels(algorithm, values)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        started = time.monotonic()
        with Progress(*columns, console=console) as progress:
            instance.train(channels, TerminalRun(progress, console, values["quiet"] or values["as_json"]))
        seconds = time.monotonic() - started
        folder.mkdir(parents=True, exist_ok=True)
        instance.save(folder)
        (folder / MARKER).write_text(
            json.dumps({"algorithm": algorithm.name, "version": sagesmith.__version__}), "utf-8"
        )
    except (DataError, ValueError, OSError) as error:
        raise fail(str(error)) from error
    if values["as_json"]:
        print_json({"algorithm": algorithm.name, "model_dir": str(folder), "seconds": round(seconds, 3)})
    else:
        asked = "ROWS.csv" if "text/csv" in algorithm.accepts else "REQUEST.json"
        console.print(f"Model in [bold]{folder}[/] after {seconds:.1f} s. Next: sagesmith predict {folder} {asked}")


def _channels(algorithm: type[Algorithm], values: dict[str, Any]) -> dict[str, Channel]:
    channels = {}
    for spec in algorithm.channels:
        path: Path | None = values.get(spec.name)
        if path is None:
            if spec.required:
                raise fail(f"Missing required channel: give --{spec.name} FILE")
            continue
        given = values["content_type"]
        label_size = spec.label_size if given or algorithm.role not in UNLABELLED else 0
        content_type = given or content_type_of(path) or spec.default
        channels[spec.name] = Channel.from_folder(spec.name, path, content_type, label_size=label_size)
    return channels


def content_type_of(path: Path) -> str:
    """The content type that a file's name (or the first file of a folder) suggests; "" when it suggests none."""
    if path.is_dir():
        path = next((p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")), path)
    name = path.name.removesuffix(".gz")
    return _SUFFIXES.get(Path(name).suffix, "")
