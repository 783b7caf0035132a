"""Parquet: numeric columns as rows; others named in the error."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sagesmith.formats.batch import DataError
from sagesmith.formats.channel import Channel
from sagesmith.formats.format import Options, read_body
from sagesmith.formats.source import Source


def body(columns: dict[str, pa.Array]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out, row_group_size=2)
    return out.getvalue()


COLUMNS = {
    "y": pa.array([1, 0, 1]),
    "a": pa.array([0.5, None, 2.5]),
    "b": pa.array([1, None, 3], pa.int8()),
    "c": pa.array([True, False, None]),
    "d": pa.array([Decimal("1.5"), None, Decimal("2")]),
    "e": pa.array([7, 8, 7]).dictionary_encode(),
}
ROWS = [[0.5, 1, 1, 1.5, 7], [np.nan, np.nan, 0, np.nan, 8], [2.5, 3, np.nan, 2, 7]]


def test_numeric_columns_and_nulls() -> None:
    batch = read_body(body(COLUMNS), "parquet", Options(label_size=1))
    np.testing.assert_array_equal(batch.label, [1, 0, 1])
    np.testing.assert_array_equal(batch.features, np.float32(ROWS))


def test_a_file_and_a_stream_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(body(COLUMNS))
    channel = Channel.from_folder("train", tmp_path, "application/x-parquet")
    np.testing.assert_array_equal(channel.read().features, np.float32(ROWS))
    assert [(row["e"], place) for row, place in channel.records()] == [
        (value, f"{tmp_path}/a.parquet, record {number}") for number, value in enumerate([7, 8, 7], 1)
    ]
    from sagesmith.formats.parquet import Parquet

    stream = Source.of_stream("pipe", io.BytesIO(body(COLUMNS)))
    (batch,) = Parquet().batches(stream, Options())
    np.testing.assert_array_equal(batch.features, np.float32(ROWS))


def test_errors_name_column_and_file() -> None:
    with pytest.raises(DataError, match="column 'name' is string, not a number"):
        read_body(body({"y": pa.array([1]), "name": pa.array(["x"])}), "parquet")
    with pytest.raises(DataError, match="request: not a Parquet file"):
        read_body(b"PAR1 nonsense PAR1", "parquet")
    with pytest.raises(DataError, match="request: not a Parquet file"):
        read_body(body(COLUMNS)[:-40], "parquet")
    with pytest.raises(DataError, match="hold the label"):
        read_body(body({"y": pa.array([1])}), "parquet", Options(label_size=1))
