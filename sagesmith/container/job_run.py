"""JobRun: the Run of a real job: AWS's log lines, SIGTERM, folders below /opt/ml, the other hosts."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from sagesmith.algorithms.base import Algorithm
from sagesmith.algorithms.run import Run
from sagesmith.container.distributed import Circle
from sagesmith.container.log_lines import BARE, metrics_line, progress_line, throughput_line
from sagesmith.contract import JobFolder

logger = logging.getLogger("sagesmith.job")


class StopRequest:
    """Remembers that SIGTERM came. The handler does nothing else: what is safe to do is for the algorithm to say."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def listen(self) -> None:
        """Takes SIGTERM from here on; only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self._asked.set()

    def __bool__(self) -> bool:
        return self._asked.is_set()


class JobRun(Run):
    """What an algorithm is given when it trains in a job; see `Run` for the attributes."""

    def __init__(self, folder: JobFolder, algorithm: type[Algorithm], stop: StopRequest) -> None:
        super().__init__()
        self._algorithm = algorithm
        self._stop = stop
        self._circle: Circle | None = None
        self._since = time.time()
        self.output = folder.output_data
        self.model = folder.model

    def join(self, circle: Circle) -> None:
        """Takes part in a gang of several hosts."""
        self._circle = circle
        self.address, self.port = circle.address, circle.port

    @property
    def stopping(self) -> bool:
        return bool(self._stop)

    def log(self, message: str, *arguments: object, level: int = logging.INFO) -> None:
        logger.log(level, message, *arguments)

    def metric_line(self, line: str) -> None:
        # Built-in algorithms put their line form around all but `#metrics`; a framework image's rounds stand bare.
        bare = self._algorithm.framework or line.startswith("#metrics ")
        logger.info("%s", line, extra=BARE if bare else None)

    def progress(self, done: int, total: int, records_per_second: float | None = None) -> None:
        if self._algorithm.framework:
            return
        self.metric_line(progress_line(self.host, done, total, self._algorithm.whole_percents))
        if records_per_second is not None:
            self.metric_line(throughput_line(self.host, records_per_second))

    def metrics(self, operation: str, values: Mapping[str, float], **dimensions: Any) -> None:
        if self._algorithm.framework:
            return
        named = {"Algorithm": self._algorithm.dimension or self._algorithm.name, "Host": self.host}
        now = time.time()
        self.metric_line(metrics_line(self._since, now, named | {"Operation": operation} | dimensions, values))
        self._since = now

    def gather(self, state: bytes) -> list[bytes]:
        return self._circle.gather(state) if self._circle else [state]
