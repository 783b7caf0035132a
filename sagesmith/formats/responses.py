"""Responses: the fields that `infer` returns, one entry per row, as the body that an Accept header asks for.

Numbers are float32 printed as doubles, as SageMaker prints them: 0.23653684556484222. NaN is written `NaN` in JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.recordio_writer import write_response

WRITTEN = ("application/json", "application/jsonlines", "application/x-recordio-protobuf", "text/csv")


def write(fields: Mapping[str, Any], accept: str, key: str = "predictions") -> bytes:
    """The body in the content type `accept`; `key` is the top of the JSON answer.

    Raises:
        DataError: a content type that no answer is written in, listing those that are.
    """
    name = ContentType.parse(accept).name
    if name == "application/json":
        return write_json(fields, key)
    if name == "application/jsonlines":
        return write_jsonlines(fields)
    if name == "application/x-recordio-protobuf":
        return write_recordio(fields)
    if name == "text/csv":
        return write_csv(fields)
    raise DataError(f"answers cannot be written as {name!r}; known: {', '.join(WRITTEN)}")


def write_json(fields: Mapping[str, Any], key: str = "predictions") -> bytes:
    """`{"predictions": [{"score": 0.5}, …]}`."""
    return json.dumps({key: _rows(fields)}).encode()


def write_jsonlines(fields: Mapping[str, Any]) -> bytes:
    """One object per line, a newline after each."""
    return "".join(json.dumps(row) + "\n" for row in _rows(fields)).encode()


def write_recordio(fields: Mapping[str, Any]) -> bytes:
    """One Record per row with the fields as keys of `label`."""
    return write_response(fields)


def write_csv(fields: Mapping[str, Any]) -> bytes:
    """One row per line, fields in their order; a list is one quoted cell, `"[0.4, 0.6]"`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(zip(*(_plain(values) for values in fields.values()), strict=True))
    return text.getvalue().encode()


def _rows(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = list(fields)
    columns = [_plain(values) for values in fields.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(values: Any) -> list[Any]:
    """Values as Python's own; floats through float32, integers as they are."""
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        if values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)
        return values.tolist()  # type: ignore[no-any-return]
    return [_plain_value(value) for value in values]


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return _plain(value)
    if isinstance(value, float | np.floating):
        return float(np.float32(value))
    return value.item() if isinstance(value, np.generic) else value
