"""`python -m sagesmith.agent PAPER.json [--lock FD]`: does what the paper says on this host."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

_asked: list[int] = []
if __name__ == "__main__":  # before the slow imports, so that an early SIGTERM is not the end of us
    signal.signal(signal.SIGTERM, lambda number, _frame: _asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the engine starts us with it held back


def main(arguments: list[str]) -> int:
    """Runs the agent; `--lock` is the descriptor whose file lock tells the engine that we are alive."""
    from sagesmith.agent.host import live

    paper, *rest = arguments
    if rest[:1] == ["--lock"]:
        os.set_inheritable(int(rest[1]), False)  # the job's process must not hold it when we are gone
    return live(Path(paper), lambda: bool(_asked))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit("usage: python -m sagesmith.agent PAPER.json [--lock FD]")
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads that wait for a reader of a pipe would hold up an ordinary exit
