"""A server that kills itself where a file in its data folder says, one line of the file after the other.

A line is what the reconciler calls its interrupt with: `TrainingJob.Watching.after`.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from pathlib import Path

from sagesmith import server
from sagesmith.core.config import Config
from sagesmith.reconciler import Reconciler

ORDERS = "kill-at"
_LOCK = threading.Lock()


def give_orders(data: Path, points: list[str]) -> None:
    """Has the server of this data folder die at each of these points, in this order."""
    partial = data / f"{ORDERS}.partial"
    partial.write_text("".join(f"{point}\n" for point in points))
    partial.replace(data / ORDERS)


def orders_left(data: Path) -> list[str]:
    """The points at which the server has not died yet."""
    try:
        return (data / ORDERS).read_text().split()
    except FileNotFoundError:
        return []


def obey(data: Path, here: str) -> None:
    """Ends the process without a word if `here` is where it shall end next."""
    with _LOCK:
        points = orders_left(data)
        if points[:1] == [here]:
            give_orders(data, points[1:])
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    config = Config.load()
    server.Reconciler = functools.partial(Reconciler, interrupt=functools.partial(obey, config.data))  # type: ignore[assignment, misc]
    server.serve(config)
