"""Checkpoints: all that the next epoch needs, after every epoch, in a file that outlives the machine.

`linear-learner-checkpoint.<epoch>` is an npz archive of arrays; its first, `facts`, is JSON in UTF-8. Marks beside the
files are the uploader's: it leaves `.sagemaker-ignore` alone, so that a file has its name only once it is whole, and a
file with `.sagemaker-uploading` must not go. The first host writes and reads; the others get what it read.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.run import Run

NAME = re.compile(r"linear-learner-checkpoint\.(\d+)")
KEEP = 2  # a newer one may be torn
VERSION = 1
FORGOTTEN = ("epochs", "early_stopping_patience")  # may be other when a job goes on: they say when it ends

Arrays = Mapping[str, np.ndarray]


class Checkpoints:
    """The checkpoints of a run, of a job with these settings and rows of this width."""

    def __init__(self, run: Run, settings: Mapping[str, Any], width: int) -> None:
        self._run, self._folder = run, run.checkpoints
        same = {name: value for name, value in settings.items() if name not in FORGOTTEN}
        self._job = {"version": VERSION, "width": width, "hosts": len(run.hosts), "hyperparameters": same}

    def write(self, epoch: int, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Leaves a checkpoint of a finished epoch, and removes those that are older than the last `KEEP`."""
        if self._folder is None or not self._run.is_master:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"linear-learner-checkpoint.{epoch}"
        partial = path.with_name(f"{path.name}.sagemaker-ignore")
        document = json.dumps(self._job | {"facts": dict(facts)}).encode()
        every: Any = {"facts": np.frombuffer(document, np.uint8)} | dict(arrays)
        with partial.open("wb") as file:
            np.savez(file, **every)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for number in sorted(self._found())[:-KEEP]:
            _remove(self._folder / f"linear-learner-checkpoint.{number}")

    def newest(self) -> tuple[int, Arrays, Mapping[str, Any]] | None:
        """The epoch, arrays and facts of the newest checkpoint of this job that can be read, on every host."""
        content = b""
        if self._folder is not None and self._run.is_master:
            content = self._read()
        if len(self._run.hosts) > 1:
            content = self._run.gather(content)[0]
        return _opened(content, self._job) if content else None

    def _read(self) -> bytes:
        assert self._folder is not None
        for number in sorted(self._found(), reverse=True):
            path = self._folder / f"linear-learner-checkpoint.{number}"
            try:
                content = path.read_bytes()
                _opened(content, self._job)
            except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
                self._run.log("Checkpoint left aside: %s: %s", path, error)
            else:
                return content
        return b""

    def _found(self) -> list[int]:
        """The epochs of the checkpoints in the folder."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return [int(match[1]) for path in self._folder.iterdir() if (match := NAME.fullmatch(path.name))]


def _remove(path: Path) -> None:
    """Unless it is being uploaded."""
    if not path.with_name(f"{path.name}.sagemaker-uploading").exists():
        path.with_name(f"{path.name}.sagemaker-uploaded").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _opened(content: bytes, job: Mapping[str, Any]) -> tuple[int, Arrays, Mapping[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    document = json.loads(arrays.pop("facts").tobytes())
    facts = document.pop("facts")
    other = [name for name, value in job.items() if document.get(name) != value]
    if other:
        raise ValueError(f"it is of a job with other {', '.join(other)}")
    return int(facts["epoch"]), arrays, facts
