"""Records out: rows for training files and requests, and the fields of a response, as RecordIO-protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sagesmith.formats.batch import Batch
from sagesmith.formats.frames import HEADER, frame
from sagesmith.formats.protobuf import Record, Value, encode

TYPES = {"float32": "<f4", "float64": "<f8"}


def write_records(batch: Batch) -> bytes:
    """The rows of a batch with their labels, byte for byte as SageMaker's SDK writes float32 arrays."""
    labels = None if batch.label is None else np.asarray(batch.label, np.float32).reshape(len(batch), -1)
    if not batch.is_sparse:
        return _tiled({"values": np.asarray(batch.features)}, {} if labels is None else {"values": labels}, len(batch))
    matrix: Any = batch.features
    shape = np.array([batch.width], np.uint64)
    parts = []
    for row in range(len(batch)):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        keys = matrix.indices[part].astype(np.uint64)
        record = Record({"values": Value("float32", matrix.data[part], keys, shape)})
        if labels is not None:
            record.label["values"] = Value("float32", labels[row])
        parts.append(frame(encode(record)))
    return b"".join(parts)


def write_response(fields: Mapping[str, Any]) -> bytes:
    """One record per row: every field a key of `label` with float32 values, no features."""
    rows = len(next(iter(fields.values()))) if fields else 0
    try:
        columns = {name: np.asarray(values, np.float32).reshape(rows, -1) for name, values in fields.items()}
    except ValueError:  # lists of different lengths
        return b"".join(frame(encode(Record(label=_one(fields, row)))) for row in range(rows))
    return _tiled({}, columns, rows)


def _one(fields: Mapping[str, Any], row: int) -> dict[str, Value]:
    return {name: Value("float32", np.atleast_1d(np.asarray(v[row], np.float32))) for name, v in fields.items()}


def _tiled(features: Mapping[str, np.ndarray], label: Mapping[str, np.ndarray], rows: int) -> bytes:
    """Records that differ only in their numbers: the first one's bytes, repeated, with the numbers put in their places.

    Works on arrays of (rows, n) float32. An entry ends with its numbers, so where they are follows from its length.
    """
    if rows == 0:
        return b""
    first = Record(
        {name: Value("float32", column[0]) for name, column in features.items()},
        {name: Value("float32", column[0]) for name, column in label.items()},
    )
    template = frame(encode(first))
    table = np.tile(np.frombuffer(template, np.uint8), (rows, 1))
    end = HEADER.size
    for columns in (features, label):
        for name, column in columns.items():
            end += len(encode(Record(features={name: Value("float32", column[0])})))  # as long as in `label`
            numbers = np.ascontiguousarray(column, "<f4").view(np.uint8)
            table[:, end - numbers.shape[1] : end] = numbers
    return table.tobytes()
