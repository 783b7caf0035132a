"""Failure texts: whose fault, in one line, whatever the error looked like."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sagesmith.container.failures import JobError, explain, fail
from sagesmith.contract import FAILURE_CHARACTERS, JobFolder


@pytest.mark.parametrize(
    ("error", "text", "status"),
    [
        (JobError("no such channel"), "ClientError: no such channel", 1),
        (JobError("it broke", prefix="AlgorithmError", status=2), "AlgorithmError: it broke", 2),
        (ValueError("line 3:\n   odd"), "ClientError: line 3: odd", 1),
        (ValueError(), "ClientError: ValueError", 1),
        (RuntimeError("XGB train call failed"), "AlgorithmError: XGB train call failed", 2),
        (RuntimeError("label < 0\nStack trace:\n  [bt] (0) x.so"), "AlgorithmError: label < 0", 2),
        (KeyError("a"), "AlgorithmError: KeyError: 'a'", 2),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 bytes"),
            "AlgorithmError: Out of memory: DefaultCPUAllocator: can't allocate memory: 12 bytes; "
            "ask for a larger instance type",
            2,
        ),
        (MemoryError("12 GB"), "AlgorithmError: Out of memory: 12 GB; ask for a larger instance type", 2),
        (
            OSError(errno.ENOSPC, "No space left on device", "/ml/x"),
            "ClientError: No space left on the volume while writing /ml/x; ask for a larger VolumeSizeInGB",
            1,
        ),
        (OSError(errno.EIO, "Input/output error"), "AlgorithmError: OSError: [Errno 5] Input/output error", 2),
    ],
)
def test_an_error_becomes_one_line_with_its_prefix(error: Exception, text: str, status: int) -> None:
    assert explain(error, known=(ValueError,)) == (text, status)


def test_the_text_is_cut_to_what_describe_shows(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert fail(folder, JobError("x" * 5000)) == 1
    assert folder.failure.read_text() == f"ClientError: {'x' * 5000}"[:FAILURE_CHARACTERS] + "\n"


def test_a_failure_that_cannot_be_written_is_still_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "output").write_text("a file where a folder should be")
    assert fail(JobFolder(tmp_path), JobError("wrong")) == 1
    assert "ClientError: wrong" in caplog.text
    assert "Could not write" in caplog.text
