"""Parquet: numeric columns as rows, labels first, names dropped; or whole rows as dicts. Read through pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Format, Options
from sagesmith.formats.source import Source

CELLS = 1 << 20  # of one batch
COPY_BYTES = 1 << 20


class Parquet(Format):
    """`application/x-parquet`. Row groups are decoded piece by piece; null is a missing value (NaN)."""

    content_types = ("application/x-parquet", "parquet", "application/parquet", "application/vnd.apache.parquet")

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        with _opened(source) as file:
            columns = len(file.schema_arrow)
            size = options.label_size
            if columns <= size:
                raise DataError(f"{source.name}: {columns} column(s), but the first {size} hold the label")
            if options.width is not None and columns - size != options.width:
                raise DataError(f"{source.name}: {columns - size} features, expected {options.width}")
            for field in file.schema_arrow:
                _check_numeric(field, source.name)
            for part in file.iter_batches(batch_size=max(1, CELLS // columns), use_threads=False):
                if part.num_rows:
                    matrix = _matrix(part)
                    label = matrix[:, 0].copy() if size == 1 else matrix[:, :size].copy() if size else None
                    yield Batch(np.ascontiguousarray(matrix[:, size:]), label)

    def records(self, source: Source, options: Options) -> Iterator[tuple[dict[str, Any], str]]:
        with _opened(source) as file:
            parts = file.iter_batches(batch_size=1024, use_threads=False)
            rows = (row for part in parts for row in part.to_pylist())
            for number, row in enumerate(rows, 1):
                yield row, f"{source.name}, record {number}"


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with source.open() as stream:
            if source.path is not None:
                with parquet.ParquetFile(str(source.path), memory_map=False, pre_buffer=False) as file:
                    yield file
            elif source.body is not None:
                yield parquet.ParquetFile(io.BytesIO(source.body))
            else:
                with TemporaryFile() as copy:  # Parquet begins at its end, which a pipe cannot give
                    while block := stream.read(COPY_BYTES):
                        copy.write(block)
                    yield parquet.ParquetFile(copy)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{source.name}: not a Parquet file that can be read: {error}") from error


def _check_numeric(field: Any, name: str) -> None:
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if not (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    ):
        raise DataError(f"{name}: column {field.name!r} is {field.type}, not a number")


def _matrix(part: Any) -> np.ndarray:
    import pyarrow as arrow

    matrix = np.empty((part.num_rows, part.num_columns), np.float32)
    for index, column in enumerate(part.columns):
        if arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not arrow.types.is_floating(column.type):
            if arrow.types.is_boolean(column.type):
                column = column.cast(arrow.uint8())
            column = column.cast(arrow.float64(), safe=False)
        with np.errstate(over="ignore"):
            matrix[:, index] = column.to_numpy(zero_copy_only=False)
    return matrix
