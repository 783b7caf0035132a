"""Channels: files, pipes and arrays give the same batches, in bounded memory."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from sagesmith.formats.batch import Batch, DataError
from sagesmith.formats.channel import Channel
from sagesmith.formats.frames import frame
from sagesmith.formats.recordio_writer import write_records

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def csv(rows: np.ndarray) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.csv").write_bytes(csv(ROWS[7:]))
    (tmp_path / "a.csv").write_bytes(csv(ROWS[:7]))
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / ".amazon.manifest").write_bytes(b"junk")
    return tmp_path


def test_a_folder_is_read_in_name_order(folder: Path) -> None:
    channel = Channel.from_folder("train", folder, "text/csv;label_size=0")
    np.testing.assert_array_equal(channel.read().features, ROWS)
    assert [path.name for path in channel.files()] == [".amazon.manifest", "_SUCCESS", "a.csv", "2.csv"]
    assert len(list(channel.batches())) == 2


@pytest.mark.parametrize("rows", [1, 3, 7, 20, 50])
def test_batches_have_exactly_the_rows_asked_for_across_files(folder: Path, rows: int) -> None:
    for channel in (Channel.from_folder("train", folder, "text/csv"), Channel.of("train", ROWS[:, 1:], ROWS[:, 0])):
        batches = list(channel.batches(rows))
        assert [len(batch) for batch in batches[:-1]] == [rows] * (len(batches) - 1)
        np.testing.assert_array_equal(np.concatenate([batch.features for batch in batches]), ROWS[:, 1:])
        np.testing.assert_array_equal(np.concatenate([batch.label for batch in batches]), ROWS[:, 0])


def test_files_that_differ_in_columns_are_both_named(folder: Path) -> None:
    (folder / "c.csv").write_bytes(b"1,2\n")
    with pytest.raises(DataError, match=r"c\.csv has 1 feature columns, but .*a\.csv has 2"):
        Channel.from_folder("train", folder, "text/csv").read()


def test_csv_weights_and_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1;0.5;3\n")
    batch = Channel.from_folder("train", tmp_path / "a.csv", "csv", csv_weights=True).read()
    assert (batch.label, batch.weight, batch.features) == (1, 0.5, 3)


def test_libsvm_batches_grow_in_width(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1 0:1\n0 4:1\n")
    (tmp_path / "b").write_bytes(b"1 2:1\n0 9:1\n")
    channel = Channel.from_folder("train", tmp_path, "text/libsvm")
    assert [batch.width for batch in channel.batches()] == [5, 10]
    assert channel.read().features.shape == (4, 10)
    assert [len(batch) for batch in channel.batches(3)] == [3, 1]


def test_an_empty_channel_has_no_batches(tmp_path: Path) -> None:
    channel = Channel.from_folder("train", tmp_path, "text/csv")
    assert list(channel.batches()) == []
    assert len(channel.read()) == 0


def test_what_a_channel_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no content type"):
        list(Channel.from_folder("train", tmp_path).batches())
    with pytest.raises(DataError, match="no files"):
        Channel.of("train", ROWS).files()
    with pytest.raises(DataError, match="no such folder"):
        Channel.from_folder("train", tmp_path / "x", "csv").read()
    with pytest.raises(DataError, match="unknown content type"):
        Channel.from_folder("train", tmp_path, "image/png").read()
    with pytest.raises(DataError, match="RecordWrapperType"):
        Channel.from_folder("train", tmp_path, "csv", record_wrapper="Zip")
    with pytest.raises(DataError, match="cannot be read as records"):
        (tmp_path / "a").write_bytes(b"1\n")
        list(Channel.from_folder("train", tmp_path, "csv").records())
    with pytest.raises(ValueError, match="batches of 0 rows"):
        Channel.of("train", ROWS).batches(0)


def feed(path: Path, data: bytes) -> threading.Thread:
    def write() -> None:
        try:
            with path.open("wb") as pipe:
                pipe.write(data)
        except BrokenPipeError:
            path.with_suffix(".closed").touch()

    os.mkfifo(path)
    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_every_pass_opens_the_next_pipe(tmp_path: Path) -> None:
    channel = Channel.from_pipe("train", tmp_path / "train", "csv", wait=5)
    for epoch in range(2):
        writer = feed(tmp_path / f"train_{epoch}", csv(ROWS + epoch))
        np.testing.assert_array_equal(channel.read().features, ROWS[:, 1:] + epoch)
        writer.join()


def test_a_pass_given_up_closes_its_pipe(tmp_path: Path) -> None:
    writer = feed(tmp_path / "train_0", csv(np.tile(ROWS, (80_000, 1))))
    channel = Channel.from_pipe("train", tmp_path / "train", "csv", wait=5)
    batches = channel.batches(5)
    assert len(next(batches)) == 5
    batches.close()  # type: ignore[attr-defined]
    writer.join(20)
    assert (tmp_path / "train_0.closed").exists()


def test_a_pipe_that_nobody_makes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such pipe"):
        list(Channel.from_pipe("train", tmp_path / "train", "csv", wait=0).batches())


def test_wrapped_records_are_files_of_their_own(tmp_path: Path) -> None:
    writer = feed(tmp_path / "train_0", frame(csv(ROWS[:5])) + frame(csv(ROWS[5:]).rstrip()))
    channel = Channel.from_pipe("train", tmp_path / "train", "csv", record_wrapper="RecordIO", wait=5)
    np.testing.assert_array_equal(channel.read().features, ROWS[:, 1:])
    writer.join()


def test_raw_frames(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(frame(b"one") + frame(b""))
    assert list(Channel.from_folder("train", tmp_path).payloads()) == [b"one", b""]


@pytest.mark.parametrize(
    "features",
    [
        ROWS,
        ROWS.astype(np.int64),
        ROWS.tolist(),
        ROWS.astype(object),
        np.asfortranarray(ROWS),
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS).astype("Int64"),
        pl.DataFrame(ROWS),
    ],
    ids=["float32", "int64", "lists", "objects", "fortran", "pandas", "nullable", "polars"],
)
def test_arrays_of_every_kind(features: Any) -> None:
    batch = Channel.of("train", features, ROWS[:, 0].tolist(), np.ones(20), np.arange(20)).read()
    np.testing.assert_array_equal(batch.features, ROWS)
    assert batch.features.dtype == np.float32
    assert batch.features.flags.c_contiguous
    assert batch.label is not None
    assert batch.label.dtype == np.float32
    assert batch.group is not None
    assert batch.group.dtype == np.int64


def test_float32_is_not_copied_and_nan_stays() -> None:
    rows = ROWS.copy()
    rows[0, 0] = np.nan
    batch = Channel.of("train", rows).read()
    assert np.shares_memory(batch.features, rows)
    assert np.isnan(batch.features[0, 0])
    assert np.isnan(Channel.of("x", pd.DataFrame({"a": [1, None]}, dtype="Int64")).read().features[1, 0])
    assert np.isnan(Channel.of("x", pl.DataFrame({"a": [1, None]})).read().features[1, 0])


def test_sparse_arrays() -> None:
    for made in (sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix):
        batch = Channel.of("train", made(ROWS.astype(np.float64))).read()
        assert batch.is_sparse
        assert batch.features.dtype == np.float32
        np.testing.assert_array_equal(batch.features.toarray(), ROWS)


def test_channels_and_batches_pass_through() -> None:
    channel = Channel.of("train", Batch(ROWS))
    assert Channel.of("train", channel) is channel


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (ROWS[0], "Expected 2D array, got 1D array instead"),
        (np.float32(3), "Expected 2D array, got scalar array instead"),
        (ROWS[None], "Found array with dim 3"),
        (ROWS[:0], r"Found array with 0 sample\(s\)"),
        (ROWS[:, :0], r"Found array with 0 feature\(s\)"),
        (ROWS + 1j, "Complex data not supported"),
        (sparse.csr_matrix(ROWS) * 1j, "Complex data not supported"),
        ([[1, 2], [3]], "rows of different lengths"),
        ([["a", "b"]], "could not convert string to float"),
        (np.array([[1e300, 1.0]]), "infinity or a value too large"),
        (np.array([["2020-01-01"]], "M8[D]"), "not numbers"),
        (pd.DataFrame({"a": [1], "b": ["x"]}), "column 'b'"),
        (pl.DataFrame({"a": [1], "b": ["x"]}), "column 'b'"),
    ],
)
def test_arrays_that_are_no_rows_of_numbers(features: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Channel.of("train", features)


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[20, 3\]"):
        Channel.of("train", ROWS, [1, 2, 3])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        Channel.of("train", ROWS, [np.nan] * 20)
    with pytest.raises(ValueError, match="whole numbers"):
        Channel.of("train", ROWS, None, None, [0.5] * 20)


def peak(channel: Channel) -> int:
    tracemalloc.start()
    try:
        rows = sum(len(batch) for batch in channel.batches(1000))
        assert rows > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["csv", "recordio"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    rows = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    block = write_records(Batch(rows)) if kind == "recordio" else csv(rows)
    content_type = "csv" if kind == "csv" else "recordio-protobuf"
    peaks = []
    for times in (8, 24):
        path = tmp_path / f"{times}"
        with path.open("wb") as file:
            for _ in range(times):
                file.write(block)
        peaks.append(peak(Channel.from_folder("train", path, content_type)))
    assert peaks[1] < peaks[0] * 1.3 + (1 << 20), peaks
    assert peaks[1] < 80 << 20, peaks


@pytest.mark.slow
def test_memory_does_not_grow_with_a_file_of_200_mb(tmp_path: Path) -> None:
    block = csv(np.random.default_rng(0).normal(size=(50_000, 20)).astype(np.float32))
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        while file.tell() < 200 << 20:
            file.write(block)
    assert peak(Channel.from_folder("train", path, "csv")) < 80 << 20
