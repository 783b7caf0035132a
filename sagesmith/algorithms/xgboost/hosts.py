"""Several hosts, one model: xgboost's own collective, its tracker on the first host.

Hosts say what data they have through `run.gather`. Those without any leave; the first host stays even then, with an
empty matrix, since it alone saves.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xgboost
from xgboost import collective

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch, DataError


class Gang:
    """This host's part of the rows, and its place among the hosts. A context manager around the training."""

    def __init__(self, run: Run, train: Batch | None, validation: Batch | None) -> None:
        self.run = run
        mine = {"train": _shape(train), "validation": _shape(validation)}
        everyone = [json.loads(each) for each in run.gather(json.dumps(mine).encode())]
        widths = {each["train"][1] for each in everyone if each["train"][0]}
        if not widths:
            raise DataError("No data in training channel path: the channel train is empty on every host")
        if len(widths) > 1:
            raise DataError(f"hosts see different numbers of feature columns: {sorted(widths)}")
        self.width = int(widths.pop())
        self.members = [h for h, each in zip(run.hosts, everyone, strict=True) if each["train"][0] or h == run.hosts[0]]
        self.stays = run.host in self.members
        self.train = train if train is not None else _empty(self.width)
        anyone_validates = any(each["validation"][0] for each in everyone)
        self.validation = validation if validation is not None else _empty(self.width) if anyone_validates else None
        if self.validation is not None and self.validation.width != self.width:
            _check_width(self.validation, self.width)
        self._tracker: Any = None
        self._port = self._open_tracker() if len(run.hosts) > 1 else 0

    def _open_tracker(self) -> int:
        if len(self.members) > 1 and self.run.is_master:
            self._tracker = xgboost.tracker.RabitTracker(len(self.members), self.run.address, sortby="task")
            self._tracker.start()
            arguments = self._tracker.worker_args()
            return int(self.run.gather(str(arguments["dmlc_tracker_port"]).encode())[0])
        return int(self.run.gather(b"0")[0])

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

    def shared(self, booster: xgboost.Booster | None, done: int) -> tuple[xgboost.Booster | None, int]:
        """The first host's checkpoint, on every host: their checkpoint folders need not be the same."""
        if self.alone:
            return booster, done
        raw = collective.broadcast(None if booster is None else bytes(booster.save_raw("ubj")), 0)
        done = int(collective.broadcast(done, 0))
        return (None if raw is None else xgboost.Booster(model_file=bytearray(raw))), done

    def refuse(self, what: str) -> None:
        """Raises HyperparameterError for what only one host can do."""
        if len(self.run.hosts) > 1:
            raise HyperparameterError(f"{what} is not supported with several hosts")

    def release(self) -> None:
        """Lets go of the rows once xgboost has its own copy."""
        self.train = _empty(self.width)
        self.validation = None


def _shape(batch: Batch | None) -> tuple[int, int]:
    return (0, 0) if batch is None else (len(batch), batch.width)


def _empty(width: int) -> Batch:
    return Batch(np.empty((0, width), np.float32), np.empty(0, np.float32))


def _check_width(batch: Batch, width: int) -> None:
    if batch.is_sparse and batch.width < width:
        batch.features.resize(len(batch), width)
        return
    raise DataError(f"channel validation has {batch.width} feature columns, channel train {width}")
