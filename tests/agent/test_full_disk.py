"""What an agent says and does when the disk under it is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sagesmith.agent import reporting, training
from sagesmith.agent.connection import Server
from sagesmith.agent.reporting import Reporter
from sagesmith.contract import JobFolder

PAPER: Any = {"run": "training-1", "host": "algo-1", "reports": "s3://runs/training-1/"}


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_job_without_words_of_its_own_is_said_to_have_had_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = JobFolder(tmp_path).create()
    assert training.failure_text(folder, 2) == "AlgorithmError: , exit code: 2"
    monkeypatch.setattr(training, "LITTLE", float("inf"))
    assert training.failure_text(folder, 2) == "AlgorithmError: , exit code: 2 (the disk is full)"
    folder.write_failure("its own words")
    assert training.failure_text(folder, 2) == "AlgorithmError: its own words"


def test_reports_go_on_without_their_copy_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Reporter(PAPER, tmp_path, Server(PAPER))
    monkeypatch.setattr(reporting, "write_private", no_room)
    reporter.enter("Training")
    assert reporter.phase == "Training"
