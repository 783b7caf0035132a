"""checkpoints: named arrays and a JSON document, written so that a process killed at any moment leaves a whole one.

A checkpoint is one file, `<algorithm>-checkpoint.<number>.npz`: data, never a pickle. SageMaker's uploader marks files
by `.sagemaker-uploading` and `.sagemaker-uploaded` and leaves those alone whose names end in `.sagemaker-ignore`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.run import Run

KEEP = 2  # the newest, and one before it in case the newest did not get through
_FACTS = "facts"


@dataclass(frozen=True)
class Checkpoint:
    """What a run had reached: `number` epochs (or checks), with arrays by name and facts as JSON."""

    number: int
    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def part(self, name: str) -> dict[str, np.ndarray]:
        """The arrays that `joined` was given as this part, by their own names; none if there was no such part."""
        return {key.removeprefix(f"{name}/"): array for key, array in self.arrays.items() if key.startswith(f"{name}/")}


def joined(parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of several parts (a network, an optimiser) under one roof, for `Checkpoints.write`."""
    return {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}


class Checkpoints:
    """The checkpoints of one run: written and read by the first host, given by it to the others.

    Does nothing where checkpointing is not configured.

    Args:
        settings: the hyperparameters, and what else must be the same for a run to go on from a checkpoint.
        apart: names among them that may differ (those that only say when training ends).
    """

    def __init__(self, run: Run, algorithm: str, settings: Mapping[str, Any], apart: Collection[str] = ()) -> None:
        self._run, self._folder = run, run.checkpoints
        same = {name: value for name, value in settings.items() if name not in apart}
        self._job = json.loads(json.dumps(same | {"hosts": len(run.hosts)}))
        self._name = f"{algorithm}-checkpoint"
        self._pattern = re.compile(rf"^{re.escape(self._name)}\.([0-9]+)\.npz$")

    @property
    def wanted(self) -> bool:
        """Whether `write` writes: gathering the arrays can be spared otherwise."""
        return self._folder is not None and self._run.is_master

    def write(self, number: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        """Keeps what is reached after `number` epochs, and removes all but the newest two."""
        if self._folder is None or not self._run.is_master:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._name}.{number}.npz"
        partial = path.with_name(f"{path.name}.sagemaker-ignore")
        document = json.dumps({"job": self._job, "facts": dict(facts or {})}).encode()
        content: Any = {_FACTS: np.frombuffer(document, np.uint8)} | {f"array/{k}": v for k, v in arrays.items()}
        with partial.open("wb") as file:
            np.savez(file, **content)  # no fsync: one torn by a power cut is found by its checksums and left aside
        partial.replace(path)
        for old in self._numbers()[:-KEEP]:
            self._remove(self._folder / f"{self._name}.{old}.npz")

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint of this job that can be read, on every host; what is left aside is logged.

        All hosts must call it.
        """
        content = self._read() if self._run.is_master else b""
        if len(self._run.hosts) > 1:
            content = self._run.gather(content)[0]
        return self._opened(content) if content else None

    def _read(self) -> bytes:
        for number in reversed(self._numbers()):
            assert self._folder is not None
            path = self._folder / f"{self._name}.{number}.npz"
            try:
                content = number.to_bytes(8, "big") + path.read_bytes()
                self._opened(content)
            except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
                self._run.log("Checkpoint left aside: %s: %s", path, error)
            else:
                self._run.log("Checkpoint loaded from %s", path)
                return content
        return b""

    def _opened(self, content: bytes) -> Checkpoint:
        with np.load(io.BytesIO(content[8:]), allow_pickle=False) as archive:
            document = json.loads(archive[_FACTS].tobytes())
            found = document["job"]
            other = sorted(name for name in {*self._job, *found} if self._job.get(name) != found.get(name))
            if other:
                raise ValueError(f"it is of a job with other {', '.join(other)}")
            arrays = {k.removeprefix("array/"): archive[k] for k in archive.files if k != _FACTS}
        return Checkpoint(int.from_bytes(content[:8], "big"), arrays, document["facts"])

    def _numbers(self) -> list[int]:
        if self._folder is None or not self._folder.is_dir():
            return []
        matches = (self._pattern.match(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def _remove(self, path: Path) -> None:
        if path.with_name(f"{path.name}.sagemaker-uploading").exists():
            return
        path.with_name(f"{path.name}.sagemaker-uploaded").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
