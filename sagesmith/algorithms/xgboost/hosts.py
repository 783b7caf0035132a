"""Several hosts, one model: xgboost's own collective, its tracker on the first host.

Hosts say what data they have through `run.gather`. Those without any leave; the first host stays even then, with an
empty matrix, since it alone saves.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from xgboost import collective

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import callbacks
from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError

_HEADER = struct.Struct(">IQ")  # the tracker's port, rounds behind the checkpoint


class Gang:
    """This host's part of the rows, and its place among the hosts. A context manager around the training."""

    def __init__(self, run: Run, train: Batch | None, validation: Batch | None) -> None:
        self.run = run
        mine = {"train": _shape(train), "validation": _shape(validation)}
        everyone = [json.loads(each) for each in run.gather(json.dumps(mine).encode())]
        if not any(each["train"][0] for each in everyone):
            raise DataError("No data in training channel path: the channel train is empty on every host")
        self.width = _common_width([each[name] for each in everyone for name in ("train", "validation")])
        self.members = [h for h, each in zip(run.hosts, everyone, strict=True) if each["train"][0] or h == run.hosts[0]]
        self.stays = run.host in self.members
        self.train = _widened(train, self.width)
        anyone_validates = any(each["validation"][0] for each in everyone)
        self.validation = _widened(validation, self.width) if anyone_validates else None
        self._tracker: Any = None
        self._port = 0
        self._checkpoint: tuple[xgboost.Booster | None, int] | None = None
        if len(run.hosts) > 1:
            self._open()

    def _open(self) -> None:
        """The first host starts the tracker and tells the others its port, and its checkpoint: theirs may differ.

        Told through `run.gather`, since xgboost's own broadcast would unpickle what arrives.
        """
        message = b""
        if self.run.is_master:
            if len(self.members) > 1:
                self._tracker = xgboost.tracker.RabitTracker(len(self.members), self.run.address, sortby="task")
                self._tracker.start()
                self._port = int(self._tracker.worker_args()["dmlc_tracker_port"])
            booster, done = callbacks.newest(self.run.checkpoints, self.run)
            message = _HEADER.pack(self._port, done) + (b"" if booster is None else bytes(booster.save_raw("ubj")))
        told = self.run.gather(message)[0]
        self._port, done = _HEADER.unpack_from(told)
        raw = bytearray(told[_HEADER.size :])
        self._checkpoint = (xgboost.Booster(model_file=raw) if raw else None, done)

    @property
    def alone(self) -> bool:
        return len(self.members) == 1

    def __enter__(self) -> Gang:
        if self.alone:
            self.run.log("Single node training.")
            return self
        self.run.log("Distributed node training with %d hosts: %s", len(self.members), self.members)
        collective.init(
            dmlc_communicator="rabit",
            dmlc_tracker_uri=self.run.address,
            dmlc_tracker_port=self._port,
            dmlc_task_id=f"{self.members.index(self.run.host):05d}",
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.alone:
            return
        if kind is None:
            collective.finalize()
            if self._tracker is not None:
                self._tracker.wait_for()
        else:
            collective.signal_error()  # the others fail at once instead of waiting for this host

    def newest(self, folder: Path | None) -> tuple[xgboost.Booster | None, int]:
        """The newest checkpoint and the rounds behind it: the first host's where there are several."""
        return self._checkpoint or callbacks.newest(folder, self.run)

    def refuse(self, what: str) -> None:
        """Raises HyperparameterError for what only one host can do."""
        if len(self.run.hosts) > 1:
            raise HyperparameterError(f"{what} is not supported with several hosts")

    def release(self) -> None:
        """Lets go of the rows once xgboost has its own copy."""
        self.train = _widened(None, self.width)
        self.validation = None


def _shape(batch: Batch | None) -> tuple[int, int, bool]:
    return (0, 0, True) if batch is None else (len(batch), batch.width, batch.is_sparse)


def _common_width(shapes: list[tuple[int, int, bool]]) -> int:
    """The number of feature columns. Sparse parts may each be narrower: trailing columns can be empty in them.

    Raises:
        DataError: dense rows of different widths.
    """
    filled = [(width, is_sparse) for rows, width, is_sparse in shapes if rows]
    dense = {width for width, is_sparse in filled if not is_sparse}
    widest = max(width for width, _ in filled)
    if len(dense) > 1 or (dense and dense != {widest}):
        widths = sorted({width for width, _ in filled})
        raise DataError(f"channels or hosts differ in their number of feature columns: {', '.join(map(str, widths))}")
    return widest


def _widened(batch: Batch | None, width: int) -> Batch:
    if batch is None:
        return Batch(np.empty((0, width), np.float32), np.empty(0, np.float32))
    return batch.widened(width)
