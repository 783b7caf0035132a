"""Instances: one row as JSON, in the forms that SageMaker's algorithms take in requests.

`{"features": [1, 2]}`, `{"data": {"features": {"values": [1, 2]}}}`, and sparse
`{"data": {"features": {"keys": [3], "shape": [10], "values": [5]}}}`. `null` is a missing value (NaN).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sagesmith.formats.batch import Batch, csr, join
from sagesmith.formats.errors import DataError
from sagesmith.formats.numbers import float32

LARGEST_WIDTH = 2**31 - 1
FORMS = '{"features": […]} or {"data": {"features": {"values": […]}}}, sparse with "keys" and "shape" beside "values"'


def rows_of(instances: Sequence[Any], places: Sequence[str], width: int | None = None) -> Batch:
    """A batch from parsed instances; `places` names each in errors.

    Raises:
        DataError: an instance of another form, or rows of different widths.
    """
    rows: list[Any] = [_features(instance, place) for instance, place in zip(instances, places, strict=True)]
    if not any(isinstance(row, dict) for row in rows):
        matrix = _matrix(rows)
        if matrix is None:
            matrix = np.stack(
                _same_width([_dense(row, place) for row, place in zip(rows, places, strict=True)], places)
            )
        batch = Batch(matrix)
    else:
        batch = _sparse_rows(rows, places)
    if width is not None and batch.width != width:
        raise DataError(f"{places[0]}: {batch.width} features, expected {width}")
    return batch


def _features(instance: Any, place: str) -> list[Any] | dict[str, Any]:
    """The list of a dense row, or the dict of a sparse one."""
    if isinstance(instance, dict):
        found = instance.get("features")
        if isinstance(instance.get("data"), dict):
            found = instance["data"].get("features")
        if isinstance(found, list):
            return found
        if isinstance(found, dict) and isinstance(found.get("values"), list):
            if "keys" in found:
                return found
            shape = found.get("shape", [len(found["values"])])
            if found["values"] and shape != [len(found["values"])]:
                raise DataError(f"{place}: {len(found['values'])} values, but shape {shape!r} and no keys")
            return found["values"] if found["values"] or "shape" not in found else {**found, "keys": []}
    raise DataError(f"{place}: not of the form {FORMS}")


def _matrix(rows: list[Any]) -> np.ndarray | None:
    """All rows at once, where they are plain numbers of one width; else None."""
    try:
        matrix = np.array(rows)
    except (ValueError, OverflowError):
        return None
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf" or matrix.shape[1] == 0:
        return None
    return float32(matrix)


def _dense(values: list[Any], place: str) -> np.ndarray:
    if not values:
        raise DataError(f"{place}: no features")
    return float32([_number(value, place) for value in values])


def _number(value: Any, place: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise DataError(f"{place}: {str(value)[:40]!r} is not a number")


def _same_width(rows: list[np.ndarray], places: Sequence[str]) -> list[np.ndarray]:
    for row, place in zip(rows, places, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(f"{place}: {len(row)} features, but {places[0]} has {len(rows[0])}")
    return rows


def _sparse_rows(rows: list[Any], places: Sequence[str]) -> Batch:
    from scipy import sparse

    parts: list[Batch] = []
    for row, place in zip(rows, places, strict=True):
        dense = not isinstance(row, dict)
        part = Batch(sparse.csr_matrix(_dense(row, place)[None, :]) if dense else _sparse(row, place))
        if parts and part.width != parts[0].width:
            raise DataError(f"{place}: {part.width} features, but {places[0]} has {parts[0].width}")
        parts.append(part)
    return join(parts)


def _sparse(row: dict[str, Any], place: str) -> Any:
    keys, shape, values = row["keys"], row.get("shape"), row["values"]
    if not (isinstance(shape, list) and len(shape) == 1 and _whole(shape[0]) and 0 < shape[0] <= LARGEST_WIDTH):
        raise DataError(f"{place}: shape {str(shape)[:40]} is not one number of columns")
    if not isinstance(keys, list) or len(keys) != len(values):
        raise DataError(f"{place}: {len(values)} values, but keys {str(keys)[:40]}")
    pairs: dict[int, float] = {}
    for key, value in zip(keys, values, strict=True):
        if not _whole(key) or not 0 <= key < shape[0]:
            raise DataError(f"{place}: key {str(key)[:40]} is not a column of shape {shape}")
        if key in pairs:
            raise DataError(f"{place}: key {key} stands twice")
        pairs[key] = _number(value, place)
    order = sorted(pairs)
    numbers = float32([pairs[key] for key in order])
    return csr(numbers, np.array(order, np.int32), np.array([0, len(order)], np.int32), shape[0])


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
