"""JSON and JSON Lines: instances as rows (see instances.py), or records as dicts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Format, Options
from sagesmith.formats.instances import rows_of
from sagesmith.formats.lines import pieces
from sagesmith.formats.nesting import load_json
from sagesmith.formats.source import Source

ROWS = 4096


class JsonLines(Format):
    """`application/jsonlines`: one value per line; blank lines are passed over."""

    content_types = ("application/jsonlines", "jsonlines", "application/x-jsonlines", "application/jsonl", "text/jsonl")

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        lines = _values(source, options)
        width = options.width
        while part := list(islice(lines, ROWS)):
            batch = rows_of([value for value, _ in part], [place for _, place in part], width)
            width = batch.width
            yield batch

    def records(self, source: Source, options: Options) -> Iterator[tuple[dict[str, Any], str]]:
        for value, place in _values(source, options):
            yield _record(value, place), place


class Json(Format):
    """`application/json`: `{"instances": […]}` as rows; as records also a list of objects, or a single object."""

    content_types = ("application/json", "json", "text/json")

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        document = _document(source)
        if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
            raise DataError(f'{source.name}: JSON without a list "instances" at its top')
        instances = document["instances"]
        if instances:
            places = [f"{source.name}, instance {number}" for number in range(1, len(instances) + 1)]
            yield rows_of(instances, places, options.width)

    def records(self, source: Source, options: Options) -> Iterator[tuple[dict[str, Any], str]]:
        document = _document(source)
        if isinstance(document, dict) and isinstance(document.get("instances"), list):
            document = document["instances"]
        for number, value in enumerate(document if isinstance(document, list) else [document], 1):
            place = f"{source.name}, record {number}"
            yield _record(value, place), place


def _values(source: Source, options: Options) -> Iterator[tuple[Any, str]]:
    for text, first, _ in pieces(source, options.charset):
        for number, line in enumerate(text.splitlines(), first):
            if line.strip():
                place = f"{source.name}, line {number}"
                yield load_json(line, place), place


def _document(source: Source) -> Any:
    with source.open() as stream:
        text = stream.read()
    return load_json(text, source.name) if text.strip() else {"instances": []}


def _record(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: not a JSON object")
    return value
