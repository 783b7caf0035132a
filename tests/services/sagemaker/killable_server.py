"""A server that kills itself where a file in its data folder says: `TrainingJob.Watching.after`, or `any`."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

from sagesmith import server
from sagesmith.core.config import Config
from sagesmith.reconciler import Reconciler


def die_at(order: Path, here: str) -> None:
    """Ends the process without a word if `here` is where it shall end; an order is obeyed once."""
    try:
        point = order.read_text()
    except FileNotFoundError:
        return
    if point in (here, "any"):
        order.rename(order.with_suffix(".obeyed"))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    order = Config.load().data / "kill-at"
    server.Reconciler = functools.partial(Reconciler, interrupt=functools.partial(die_at, order))  # type: ignore[assignment, misc]
    server.serve(Config.load())
