"""Checkpoints reach S3 while a job runs, whole, though it soon removes them again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagesmith.agent import checkpoints
from sagesmith.core.names import S3Uri


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What is uploaded, by its key."""
    found: dict[str, bytes] = {}

    def upload(server: Any, path: Path, target: S3Uri) -> None:
        found[target.key] = path.read_bytes()

    monkeypatch.setattr(checkpoints, "upload", upload)
    return found


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sent: dict[str, bytes]) -> Iterator[checkpoints.Checkpoints]:
    monkeypatch.setattr(checkpoints, "PAUSE", 0.5)
    monkeypatch.setattr(checkpoints, "SETTLING", 0.1)
    kept = checkpoints.Checkpoints(tmp_path, S3Uri("bucket", "job"), None)  # type: ignore[arg-type]
    kept.start()
    yield kept
    kept.finish()


def test_checkpoints_that_soon_make_room_for_newer_ones_are_copied(
    kept: checkpoints.Checkpoints, tmp_path: Path, sent: dict[str, bytes]
) -> None:
    ended = threading.Event()

    def job() -> None:
        number = 0
        while not ended.wait(0.15):
            number += 1
            (tmp_path / "partial.sagemaker-ignore").write_text(str(number))
            (tmp_path / "partial.sagemaker-ignore").rename(tmp_path / f"model.{number}")
            (tmp_path / f"model.{number - 2}").unlink(missing_ok=True)

    thread = threading.Thread(target=job)
    thread.start()
    until = time.monotonic() + 20
    while not sent and time.monotonic() < until:
        time.sleep(0.05)
    ended.set()
    thread.join()
    assert sent
    assert all(key == f"job/model.{content.decode()}" for key, content in sent.items())


def test_what_is_not_finished_is_left_where_it_is(tmp_path: Path, sent: dict[str, bytes]) -> None:
    kept = checkpoints.Checkpoints(tmp_path, S3Uri("bucket", "job"), None)  # type: ignore[arg-type]
    (tmp_path / "model.1").write_bytes(b"whole")
    (tmp_path / "model.2.sagemaker-ignore").write_bytes(b"ha")
    kept.finish()
    assert sent == {"job/model.1": b"whole"}
