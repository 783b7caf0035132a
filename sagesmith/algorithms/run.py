"""Run: all that an algorithm may know of the job it trains in. On a laptop: nothing much."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sagesmith.formats.ahead import processors

logger = logging.getLogger("sagesmith.algorithms")


class Run:
    """A training run on one host with no job around it. `container.train` subclasses it for a real job.

    Attributes:
        host, hosts: this host's name and all of them, sorted; `hosts[0]` is the master, the only one that saves.
        threads: processors that this host may use.
        gpus: GPUs that this host may use.
        output: folder for files beside the model (becomes output.tar.gz); None: nowhere to leave them.
        checkpoints: folder that outlives the run, for checkpoints; None: checkpointing is not configured.
        initial_model: folder of an earlier model for incremental training; None: start afresh.
        model: folder in which the model will be saved, for algorithms that save while they train.
        address: where `hosts[0]` is reached by the others (host name or address).
        port: a port on `address` that is free for the gang's own use.
    """

    host: str = "algo-1"
    hosts: Sequence[str] = ("algo-1",)
    output: Path | None = None
    checkpoints: Path | None = None
    initial_model: Path | None = None
    model: Path | None = None
    address: str = "127.0.0.1"
    port: int = 0

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or processors()
        self.gpus = sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))

    @property
    def rank(self) -> int:
        return list(self.hosts).index(self.host)

    @property
    def is_master(self) -> bool:
        return self.rank == 0

    @property
    def stopping(self) -> bool:
        """True once the job has been asked to stop: leave the best model so far and return soon."""
        return False

    def log(self, message: str, *arguments: object, level: int = logging.INFO) -> None:
        """A line for the job's log, %-formatted."""
        logger.log(level, message, *arguments)

    def metric_line(self, line: str) -> None:
        """A line that metrics are scraped from, printed as it is."""
        logger.info("%s", line)

    def quality(
        self, name: str, value: float, kind: str = "loss", epoch: int | None = None, batch: int | None = None
    ) -> None:
        """`#quality_metric: host=algo-1, epoch=0, train msd <loss>=0.1`; name is e.g. `train msd`."""
        where = "" if epoch is None else f", epoch={epoch}"
        where += "" if batch is None else f", batch={batch}"
        comma = " " if batch is not None else ", "
        self.metric_line(f"#quality_metric: host={self.host}{where}{comma}{name} <{kind}>={value}")

    def progress(self, done: int, total: int, records_per_second: float | None = None) -> None:
        """One step of `total` is done: AWS's progress and throughput lines, or a progress bar."""

    def metrics(self, operation: str, values: Mapping[str, float], **dimensions: Any) -> None:
        """AWS's `#metrics {...}` line."""

    def gather(self, state: bytes) -> list[bytes]:
        """Every host's `state`, in the order of `hosts`, on every host. Blocks until all have called it."""
        return [state]
