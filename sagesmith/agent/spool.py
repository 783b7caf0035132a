"""The job's log on disk: one event per line, kept whether or not the server is there to take it."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

EVENT_BYTES = 256 * 1024 - 26  # CloudWatch's limit of one event, less what it counts for each
TAB = b"#011"  # what CloudWatch shows for a tab in a training log; metric regexes are written for it
READ = 1 << 16


class Event(NamedTuple):
    """One line of the log."""

    timestamp: int  # milliseconds since the epoch, never less than the one before
    message: str


class Spool:
    """An append-only file of events: milliseconds, a tab, the text, a newline. Blank lines are no events.

    While the disk is full lines are lost, which a later line says; the job is not held up.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._rest = b""  # what a full disk did not take of the last event that it took part of
        self._lost = 0  # lines since then
        self.path = path
        self._lock = threading.Lock()
        self._last = 0
        self.written = threading.Condition()

    def write(self, line: bytes) -> None:
        """Appends a line of output, in several events when it is longer than one may be."""
        line = line.rstrip(b"\r\n").replace(b"\t", TAB).replace(b"\n", b" ")
        with self._lock:
            self._last = max(self._last, time.time_ns() // 1_000_000)
            stamp = b"%d\t" % self._last
            self._append(b"".join(stamp + part + b"\n" for part in _parts(line)), stamp)
        with self.written:
            self.written.notify_all()

    def _append(self, events: bytes, stamp: bytes) -> None:
        self._rest = self._put(self._rest)
        if self._rest:
            self._lost += 1
            return
        if self._lost:
            events = stamp + b"%d lines were lost here: the disk was full.\n" % self._lost + events
            self._lost = 0
        self._rest = self._put(events)

    def _put(self, data: bytes) -> bytes:
        """Writes to the file; returns what the disk had no room for."""
        try:
            return data[self._file.write(data) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return data

    def say(self, text: str) -> None:
        """A line of the agent's own, for the user to read among the job's."""
        self.write(text.encode("utf-8", "replace"))

    def close(self) -> None:
        self._file.close()


def _parts(line: bytes) -> list[bytes]:
    """The line as text in UTF-8 no longer than an event; what is not UTF-8 is shown as U+FFFD."""
    data = line.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}").encode()
    if not data.strip():
        return []
    parts = []
    while len(data) > EVENT_BYTES:
        cut = EVENT_BYTES
        while data[cut] & 0xC0 == 0x80:  # never between the bytes of one character
            cut -= 1
        parts.append(data[:cut])
        data = data[cut:]
    return [*parts, data]


class SpoolReader:
    """Reads a spool from its beginning, event by event, while it is being written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self, most: int, size: int) -> list[Event]:
        """The next whole events, at most so many and of about so many bytes together."""
        events: list[Event] = []
        while len(events) < most and size > 0:
            start = self._file.tell()
            line = self._file.readline()
            if not line.endswith(b"\n"):
                self._file.seek(start)
                break
            stamp, _, message = line[:-1].partition(b"\t")
            size -= len(message) + 26
            if size < 0 and events:
                self._file.seek(start)
                break
            events.append(Event(int(stamp), message.decode()))
        return events

    def close(self) -> None:
        self._file.close()


def collect(stream: BinaryIO, spool: Spool, notice: Callable[[str], None]) -> None:
    """Copies a process's output into the spool until it ends; `notice` sees every line as the log shows it."""
    held = b""
    while data := stream.read(READ):
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            _take(line, spool, notice)
        while len(held) > EVENT_BYTES:
            _take(held[:EVENT_BYTES], spool, notice)
            held = held[EVENT_BYTES:]
    if held:
        _take(held, spool, notice)


def _take(line: bytes, spool: Spool, notice: Callable[[str], None]) -> None:
    spool.write(line)
    notice(line.rstrip(b"\r").replace(b"\t", TAB).decode("utf-8", "replace"))
