"""The engine's end of a nursery: a process that forks agents faster than an interpreter can start and import."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path

ANSWER = 10.0  # seconds for a nursery that is still importing; then we start agents without it


class Nursery:
    """Starts `python -m sagesmith.agent.nursery`, which ends when this object or its process does."""

    def __init__(self, runs: Path, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER)
        self._channel: socket.socket | None = ours
        weakref.finalize(self, ours.close)
        log = os.open(runs / ".nursery.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        arguments = [sys.executable, "-P", "-m", "sagesmith.agent.nursery", "3", str(runs)]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
        ]
        try:
            self.pid = os.posix_spawn(sys.executable, arguments, environment, file_actions=actions, setsid=True)
        finally:
            os.close(log)
            theirs.close()

    def fork(self, paper: Path, lock: int, log: int) -> int | None:
        """An agent's pid. None when the nursery does not say: it may have forked one, the lock will tell."""
        if self._channel is None:
            return None
        try:
            socket.send_fds(self._channel, [json.dumps({"paper": str(paper)}).encode()], [lock, log])
            answer = self._channel.recv(1024)
            return int(json.loads(answer)["pid"])
        except (OSError, ValueError):
            self._end()
            return None

    def _end(self) -> None:
        """Makes sure that no request which is still under way is carried out later."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)  # our child, not waited for yet: the pid is still its own
                os.waitpid(self.pid, 0)
