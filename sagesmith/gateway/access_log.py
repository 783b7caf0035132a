"""The access log: one line of JSON per request, written by a thread of its own so that no request waits for it.

A line is made where the request is answered, with one f-string: made by the thread, a thousand lines at once kept the
interpreter from the event loop for milliseconds, five times a second.
"""

from __future__ import annotations

import json
import threading
import time
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagesmith.gateway.app import Exchange

LARGEST = 64 * 2**20  # bytes of the file; then it becomes `<name>.1`, replacing the one before
_WAITING = 100_000  # lines; more are dropped, and counted in the next line
_PAUSE = 0.2  # seconds in which lines gather before they are written


class AccessLog:
    """Appends to a file; `close` writes what is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange) -> None:
        """Notes a request that has been answered."""
        if self._lines.qsize() >= _WAITING:
            self._dropped += 1
            return
        incoming, route = exchange.incoming, exchange.route
        service = route.service if route is not None else ""
        operation = route.model.name if route is not None and route.model is not None else ""
        self._lines.put(
            f'{{"time":{time.time():.3f},"id":"{exchange.id}","method":{quoted(incoming.method)},'
            f'"path":{quoted(incoming.raw_path[:1024].decode("latin-1"))},"service":{quoted(service)},'
            f'"operation":"{operation}","region":{quoted(exchange.claim.region[:128])},'
            f'"key":{quoted(exchange.claim.key[:128])},"status":{exchange.status},"error":{quoted(exchange.error)},'
            f'"ms":{(time.perf_counter() - exchange.started) * 1000:.3f}}}\n'
        )

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join()

    def _write(self) -> None:
        going = True
        while going:
            batch = [self._lines.get()]
            if batch[0] is not None:
                time.sleep(_PAUSE)
            while not self._lines.empty():
                batch.append(self._lines.get())
            going = None not in batch
            text = "".join(line for line in batch if line is not None)
            if self._dropped:
                text += json.dumps({"time": round(time.time(), 3), "dropped": self._dropped}) + "\n"
                self._dropped = 0
            self._append(text)

    def _append(self, text: str) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size > LARGEST:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            self._dropped += text.count("\n")  # a full disk must not stop the server; the loss is told later
