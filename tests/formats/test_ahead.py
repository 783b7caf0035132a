"""ahead: threads work beside each other, and what comes out is as if one had done it all."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest

from sagesmith.formats import compiled, libsvm, tabular
from sagesmith.formats.ahead import HELD, in_order, processors
from sagesmith.formats.batch import Batch, DataError
from sagesmith.formats.channel import Channel


def test_results_come_in_the_order_of_the_items() -> None:
    """Even where the first takes longest: it waits for the second."""
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(10)
        if item == 1:
            second.set()
        return item * 2

    assert list(in_order(work, range(50), 2)) == [item * 2 for item in range(50)]


def test_no_more_than_a_few_items_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    for done, result in enumerate(islice(in_order(lambda item: item, items(), 2), 100), 1):
        assert result == done
        assert taken <= done + HELD * 2


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_after_all_results_before_it(threads: int) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise OSError("the stream broke off")

    found = []
    with pytest.raises(OSError, match="broke off"):
        for result in in_order(str, items(), threads):
            found.append(result)
    assert found == ["1", "2", "3"]
    found = []
    with pytest.raises(ZeroDivisionError):
        for result in in_order(lambda item: 6 // item, [3, 2, 0, 1], threads):
            found.append(result)
    assert found == [2, 3]


def test_threads_end_when_nobody_asks_any_more() -> None:
    before = threading.active_count()
    results = in_order(str, count(), 3)
    assert next(results) == "0"
    results.close()
    assert threading.active_count() == before


def test_processors_are_what_a_job_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processors() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert processors() == len(os.sched_getaffinity(0))


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch, always_compiled: None) -> list[str]:
    """Text is read by compiled code in pieces of 1,000 bytes; gives the names of the threads that did it."""
    names: list[str] = []
    for module in (tabular, libsvm):
        inner = module._compiled

        def noted(*given: object, inner: object = inner) -> object:
            names.append(threading.current_thread().name)
            return inner(*given)  # type: ignore[operator]

        monkeypatch.setattr(module, "PIECE_BYTES", 1000)
        monkeypatch.setattr(module, "_compiled", noted)
    monkeypatch.setattr(compiled, "WORTH_CALLING", 0)
    return names


def csv_of(table: np.ndarray) -> bytes:
    return "".join(",".join(map(repr, row)) + "\n" for row in table.tolist()).encode()


def libsvm_of(table: np.ndarray) -> bytes:
    rows = [" ".join([repr(row[0]), *(f"{k}:{v!r}" for k, v in enumerate(row[1:]))]) for row in table.tolist()]
    return "\n".join(rows).encode()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("kind", "written"), [("text/csv", csv_of), ("text/libsvm", libsvm_of)], ids=["csv", "libsvm"])
def test_many_threads_read_what_one_reads(
    kind: str,
    written: object,
    packed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_small_pieces: list[str],
) -> None:
    table = np.random.default_rng(0).normal(size=(400, 7)).astype(np.float32)
    text = written(table)  # type: ignore[operator]
    (tmp_path / "rows").write_bytes(gzip.compress(text) if packed else text)
    found: list[Batch] = []
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(Channel.from_folder("train", tmp_path, kind).read())
    assert any("ahead" in name for name in in_small_pieces)
    for batch in found:
        features = batch.features.toarray() if batch.is_sparse else batch.features  # type: ignore[union-attr]
        np.testing.assert_array_equal(features, table[:, 1:])
        np.testing.assert_array_equal(batch.label, table[:, 0])


@pytest.mark.parametrize("kind", ["text/csv", "text/libsvm"])
def test_the_first_error_is_the_one_that_is_told(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_small_pieces: list[str]
) -> None:
    """With its own line, in a file of many pieces; rows before its piece are given out."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    good = b"1,2.5,3\n" if kind == "text/csv" else b"1 0:2.5\n"
    (tmp_path / "a").write_bytes(good * 2000)
    (tmp_path / "b").write_bytes(good * 777 + b"oops\n" + good * 500 + b"worse\n" + good * 50)
    seen = 0
    with pytest.raises(DataError, match=r"b, line 778: ") as told:
        for batch in Channel.from_folder("train", tmp_path, kind).batches():
            seen += len(batch)
    assert "oops" in str(told.value) or "1 columns" in str(told.value)
    assert 2600 < seen <= 2777


def test_quoted_numbers_and_both_ends_of_lines_across_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_small_pieces: list[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    rows = [f'{row},"{row}.5", {row} ' for row in range(1000)]
    for end in ("\n", "\r\n", "\r", "\n\n"):
        (tmp_path / "a.csv").write_text(end.join(rows) + end, newline="")
        batch = Channel.from_folder("train", tmp_path, "text/csv").read()
        numbers = np.arange(1000, dtype=np.float32)
        np.testing.assert_array_equal(batch.features, np.column_stack([numbers + 0.5, numbers]))
        np.testing.assert_array_equal(batch.label, numbers)


def test_a_pipe_is_read_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_small_pieces: list[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    os.mkfifo(tmp_path / "train_0")

    def write() -> None:
        with (tmp_path / "train_0").open("wb") as pipe:
            for row in range(5000):
                pipe.write(b"%d,%d\n" % (row, row + 1))

    writer = threading.Thread(target=write)
    writer.start()
    batch = Channel.from_pipe("train", tmp_path / "train", "text/csv").read()
    writer.join(10)
    np.testing.assert_array_equal(batch.features[:, 0], np.arange(1, 5001))
    assert any("ahead" in name for name in in_small_pieces)
