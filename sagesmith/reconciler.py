"""The loop: takes due rows under a lease, runs one step of each, commits what the step decided.

Nothing is kept in memory between steps, so the server may be killed anywhere: a step that was not committed is taken
again, one that was committed is not. Slow steps run beside each other in a small pool; the loop itself sleeps until
the next row is due or somebody pokes it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sagesmith.core.machine import MACHINES, Document, Machine, Move
from sagesmith.core.operation import Context, World
from sagesmith.store.due import Due
from sagesmith.store.resources import KINDS, Changed, Ended

LEASE = 30.0  # seconds; renewed while a step runs
WORKERS = 8  # steps beside each other
ATTEMPTS = 8  # failures in a row before a machine is asked to give up; about a minute of trying
FIRST_RETRY, LONGEST_RETRY = 0.5, 60.0  # seconds; doubled with every failure
LOOK_AROUND = 5.0  # seconds after which rows of a server that died are looked for, where a database is shared
AFTER_TROUBLE = 1.0  # seconds until the loop tries again when the database does not answer

log = logging.getLogger(__name__)


class Reconciler:
    """One server's loop.

    Args:
        world: what the steps are given.
        owner: names this server in leases; by default host and data folder, which are the same after a restart.
        interrupt: called with `<kind>.<state>.before`, `.after` (the step ran, nothing is committed) and `.committed`;
            kill tests end the process there.
    """

    def __init__(
        self,
        world: World,
        *,
        owner: str | None = None,
        workers: int = WORKERS,
        interrupt: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self.world = world
        self.due = Due(world.database, owner or f"{socket.gethostname()}:{world.config.data}", LEASE)
        self._interrupt = interrupt
        self._workers = workers
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the loop."""
        self._thread = threading.Thread(target=self._loop, name="reconciler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop once the steps under way are committed."""
        self._stopping = True
        self.poke()
        if self._thread is not None:
            self._thread.join()

    def poke(self) -> None:
        """Something may be due: look now."""
        self._wake.set()

    def drain(self, limit: int = 1000) -> int:
        """Runs what is due now, and what becomes due by that, in this thread; the number of steps.

        Raises:
            RuntimeError: there was no end to it within `limit` steps.
        """
        for steps in range(limit):
            taken = self.due.take(self.world.clock.now(), 1)
            if not taken:
                return steps
            self._step(taken[0])
        raise RuntimeError(f"steps were still due after {limit} of them")

    def _loop(self) -> None:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="step") as pool:
            renewed = time.monotonic()
            took_back = False
            while not self._stopping:
                self._wake.clear()
                try:
                    if not took_back:  # what this server held before it was killed; a full disk makes it wait
                        self.due.release_all()
                        took_back = True
                    self._submit_due(pool)
                    if time.monotonic() - renewed > LEASE / 3:
                        self._renew()
                        renewed = time.monotonic()
                    pause = self._pause()
                except Exception:
                    log.exception("the reconciler could not look for due documents")
                    pause = AFTER_TROUBLE
                self._wake.wait(pause)

    def _submit_due(self, pool: ThreadPoolExecutor) -> None:
        with self._lock:
            busy = set(self._busy)
        free = self._workers - len(busy)
        if free == 0:
            return
        for document in self.due.take(self.world.clock.now(), free, busy):
            with self._lock:
                self._busy.add(document.id)
            pool.submit(self._work, document)

    def _work(self, document: Document) -> None:
        try:
            self._step(document)
        except Exception:
            log.exception("%s %s: its step could not be recorded", document.kind, document.name)
        finally:
            with self._lock:
                self._busy.discard(document.id)
            self.poke()

    def _renew(self) -> None:
        with self._lock:
            busy = set(self._busy)
        if busy:
            self.due.renew(busy, self.world.clock.now())

    def _pause(self) -> float | None:
        """Seconds to sleep; None when only a poke can bring something to do."""
        with self._lock:
            busy = set(self._busy)
        pauses = [LEASE / 3] if busy else []
        if not self.world.database.sqlite:
            pauses.append(LOOK_AROUND)
        if len(busy) < self._workers:
            next_at = self.due.next_at(busy)
            if next_at is not None:
                pauses.append(min(max(0.0, next_at - self.world.clock.now()), LONGEST_RETRY))
        return min(pauses, default=None)

    def _step(self, document: Document) -> None:
        ctx = Context(self.world, document.account, document.region)
        point = f"{document.kind}.{document.state}"
        try:
            self._interrupt(f"{point}.before")
            move = _machine(document).step(document, ctx)
            self._interrupt(f"{point}.after")
            self._commit(document, move, ctx)
            self._interrupt(f"{point}.committed")
        except Changed:
            self.due.release(document.id)
        except Ended:
            log.error("%s %s has ended and yet was due", document.kind, document.name)
            self._retry(document, LONGEST_RETRY)
        except Exception as error:
            log.exception("%s %s: step %r failed", document.kind, document.name, document.state)
            self._after_failure(document, error, ctx)

    def _commit(self, document: Document, move: Move, ctx: Context) -> None:
        with self.world.database.transaction():
            KINDS[document.kind].save(ctx, document, move)
            self.due.succeeded(document.id)

    def _after_failure(self, document: Document, error: Exception, ctx: Context) -> None:
        failures = self.due.failures(document.id) + 1
        machine = MACHINES.get(document.kind)
        if failures >= ATTEMPTS and machine is not None and machine.failed is not None:
            reason = f"InternalServerError: step {document.state} failed {failures} times: {error}"
            try:
                self._commit(document, machine.failed(document, reason, ctx), ctx)
            except Changed:
                self.due.release(document.id)
            except Exception:
                log.exception("%s %s could not be given up", document.kind, document.name)
            else:
                return
        self._retry(document, min(FIRST_RETRY * 2.0 ** (failures - 1), LONGEST_RETRY), failures)

    def _retry(self, document: Document, after: float, failures: int = 0) -> None:
        self.due.postpone(document, self.world.clock.now() + after, failures)


def _machine(document: Document) -> Machine:
    machine = MACHINES.get(document.kind)
    if machine is None:
        raise LookupError(f"no room is loaded that moves documents of kind {document.kind}")
    return machine
