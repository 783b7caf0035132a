"""The engine's end of a nursery: a process that forks agents faster than an interpreter can start and import."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

ANSWER = 10.0  # seconds for a nursery that is still importing; then we start agents without it
PAUSE = 5.0  # seconds between the starts of two nurseries: one that cannot live here must not be started all the time

_logger = logging.getLogger(__name__)


class Nursery:
    """Runs `python -m sagesmith.agent.nursery`, which ends when this object or its process does.

    One that dies is replaced when that is noticed: by `tend`, or by a `fork`, which does without it then.

    Attributes:
        pid: of the process there is, or was last.
    """

    def __init__(self, runs: Path, environment: Mapping[str, str]) -> None:
        self._runs = runs
        self._environment = dict(environment)
        self._channel: socket.socket | None = None
        self._start()

    def fork(self, paper: Path, lock: int, log: int) -> int | None:
        """An agent's pid. None when the nursery does not say: it may have forked one, the lock will tell."""
        if self._channel is None or self._gone():
            self.tend()
            return None
        try:
            socket.send_fds(self._channel, [json.dumps({"paper": str(paper)}).encode()], [lock, log])
            answer = self._channel.recv(1024)
            return int(json.loads(answer)["pid"])
        except (OSError, ValueError):
            self._end()
            self.tend()
            return None

    def tend(self) -> None:
        """Replaces a nursery that has died, at the earliest PAUSE after it was started."""
        if self._channel is not None and not self._gone():
            return
        if time.monotonic() - self._started < PAUSE:
            return
        try:
            self._start()
        except OSError as error:  # agents start without one
            _logger.warning("the nursery %d has died and cannot be replaced: %s", self.pid, error)

    def _start(self) -> None:
        self._started = time.monotonic()
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER)
        log = os.open(self._runs / ".nursery.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        arguments = [sys.executable, "-P", "-m", "sagesmith.agent.nursery", "3", str(self._runs)]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
        ]
        try:
            self.pid = os.posix_spawn(sys.executable, arguments, self._environment, file_actions=actions, setsid=True)
        except OSError:
            ours.close()
            raise
        finally:
            os.close(log)
            theirs.close()
        self._channel = ours
        self._close = weakref.finalize(self, ours.close)

    def _gone(self) -> bool:
        """Whether the process has ended; if so nothing of it is left."""
        try:
            ended = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # somebody else has waited for it
            ended = True
        if ended:
            self._hang_up()
        return ended

    def _end(self) -> None:
        """Makes sure that no request which is still under way is carried out later."""
        if self._channel is not None:
            self._hang_up()
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)  # our child, not waited for yet: the pid is still its own
                os.waitpid(self.pid, 0)

    def _hang_up(self) -> None:
        self._close()
        self._channel = None
