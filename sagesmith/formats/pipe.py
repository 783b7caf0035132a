"""Pipe: a channel's FIFOs, `<prefix>_0`, `<prefix>_1`, …: one for every pass over the data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sagesmith.formats.errors import DataError

WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.02


class Pipe:
    """Opens the next FIFO on every pass. Closing one early tells its writer that the pass is over."""

    def __init__(self, prefix: Path, wait: float = WAIT_SECONDS) -> None:
        self.prefix = prefix
        self.wait = wait  # seconds for the writer to make the FIFO
        self.epoch = 0

    @contextmanager
    def open(self) -> Iterator[tuple[str, BinaryIO]]:
        """Its name and bytes, for one pass.

        Raises:
            DataError: nobody made the FIFO in time.
        """
        path = self.prefix.with_name(f"{self.prefix.name}_{self.epoch}")
        self.epoch += 1
        limit = time.monotonic() + self.wait
        while not path.exists():
            if time.monotonic() > limit:
                raise DataError(f"{path}: no such pipe after {self.wait:g} s")
            time.sleep(LOOK_SECONDS)
        with path.open("rb") as stream:
            yield str(path), stream
