from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sagesmith.core.clock import FrozenClock, SystemClock
from sagesmith.core.config import Config
from sagesmith.core.machine import MACHINES, Document, Machine, Move
from sagesmith.core.operation import ApiError, Context, World
from sagesmith.reconciler import ATTEMPTS, LEASE, Reconciler
from sagesmith.store.database import Database
from sagesmith.store.resources import KINDS, Documents

POINTS = [f"Job.{state}.{place}" for state in ("one", "two", "three") for place in ("before", "after", "committed")]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    world = World(Config(data=tmp_path), FrozenClock(), database, objects=None, engine=None)  # type: ignore[arg-type]
    yield Context(world, "123456789012", "us-east-1")
    database.close()


def documents() -> Documents:
    return Documents(
        "Job",
        arn="job",
        missing=lambda name: ApiError("Missing", name),
        exists=lambda arn: ApiError("Exists", arn),
        terminal=("Completed", "Failed"),
    )


@pytest.fixture
def jobs() -> Iterator[Documents]:
    yield documents()
    del KINDS["Job"]
    MACHINES.pop("Job", None)


def three_steps(folder: Path) -> Machine:
    """Leaves a mark per step, as a step's work outside the database; `two` waits for one second first."""

    def one(document: Document, _ctx: Context) -> Move:
        (folder / f"{document.name}.one").touch()
        return Move(state="two", after=1)

    def two(document: Document, _ctx: Context) -> Move:
        (folder / f"{document.name}.two").touch()
        return Move(state="three", status="Ending")

    def three(document: Document, _ctx: Context) -> Move:
        (folder / f"{document.name}.three").touch()
        return Move(status="Completed", body={"Runs": document.body.get("Runs", 0) + 1})

    return Machine("Job", one=one, two=two, three=three)


def advance(ctx: Context, seconds: float) -> None:
    assert isinstance(ctx.world.clock, FrozenClock)
    ctx.world.clock.advance(seconds)


def failures_of(ctx: Context, jobs: Documents, name: str) -> int:
    return Reconciler(ctx.world).due.failures(jobs.get(ctx, name).id)


def test_steps_run_when_they_are_due_and_end_with_a_terminal_status(
    ctx: Context, jobs: Documents, tmp_path: Path
) -> None:
    three_steps(tmp_path)
    jobs.create(ctx, "a", {}, status="InProgress", state="one", due_in=0)
    reconciler = Reconciler(ctx.world)
    assert reconciler.drain() == 1
    assert jobs.get(ctx, "a").state == "two"
    assert reconciler.drain() == 0
    advance(ctx, 1)
    assert reconciler.drain() == 2
    ended = jobs.get(ctx, "a")
    assert (ended.status, ended.due_at, ended.body) == ("Completed", None, {"Runs": 1})


@pytest.mark.parametrize("point", POINTS)
def test_a_server_that_dies_at_any_point_changes_nothing_in_the_end(
    ctx: Context, jobs: Documents, tmp_path: Path, point: str
) -> None:
    three_steps(tmp_path)

    def die(here: str) -> None:
        if here == point:
            raise Killed

    jobs.create(ctx, "a", {}, status="InProgress", state="one", due_in=0)
    with pytest.raises(Killed):
        for _ in range(3):
            Reconciler(ctx.world, interrupt=die).drain()
            advance(ctx, 1)
    restarted = Reconciler(ctx.world)
    restarted.due.release_all()
    for _ in range(3):
        restarted.drain()
        advance(ctx, 1)
    ended = jobs.get(ctx, "a")
    assert (ended.status, ended.body) == ("Completed", {"Runs": 1})
    assert {path.suffix for path in tmp_path.glob("a.*")} == {".one", ".two", ".three"}


def test_another_server_takes_over_once_the_lease_is_out(ctx: Context, jobs: Documents, tmp_path: Path) -> None:
    three_steps(tmp_path)
    jobs.create(ctx, "a", {}, state="one", due_in=0)
    dead, alive = Reconciler(ctx.world, owner="dead"), Reconciler(ctx.world, owner="alive")
    assert len(dead.due.take(ctx.now, 1)) == 1
    assert alive.drain() == 0
    assert alive.due.next_at() == ctx.now + LEASE
    advance(ctx, LEASE)
    assert alive.drain() == 1


def test_a_renewed_lease_holds(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {}, state="one", due_in=0)
    slow, other = Reconciler(ctx.world, owner="slow"), Reconciler(ctx.world, owner="other")
    slow.due.take(ctx.now, 1)
    advance(ctx, LEASE - 1)
    slow.due.renew([made.id], ctx.now)
    advance(ctx, LEASE - 1)
    assert other.due.take(ctx.now, 1) == []


def test_a_move_is_dropped_when_a_client_changed_the_document_and_the_step_is_taken_again(
    ctx: Context, jobs: Documents
) -> None:
    seen: list[str] = []

    def step(document: Document, inner: Context) -> Move:
        seen.append(document.status)
        if len(seen) == 1:
            jobs.change(inner, document.name, lambda _document: Move(status="Stopping"))
        return Move(state="", body={"Saw": document.status})

    Machine("Job", one=step)
    jobs.create(ctx, "a", {}, status="InProgress", state="one", due_in=0)
    assert Reconciler(ctx.world).drain() == 2
    assert seen == ["InProgress", "Stopping"]
    assert jobs.get(ctx, "a").body == {"Saw": "Stopping"}


def test_a_failing_step_is_tried_again_at_growing_intervals(ctx: Context, jobs: Documents) -> None:
    tries: list[float] = []

    def step(_document: Document, inner: Context) -> Move:
        tries.append(inner.now)
        if len(tries) < 4:
            raise OSError("disk full")
        return Move(status="Completed")

    Machine("Job", one=step)
    jobs.create(ctx, "a", {}, state="one", due_in=0)
    reconciler = Reconciler(ctx.world)
    for _ in range(40):
        reconciler.drain()
        advance(ctx, 0.25)
    assert [later - earlier for earlier, later in itertools.pairwise(tries)] == [0.5, 1.0, 2.0]
    assert jobs.get(ctx, "a").status == "Completed"
    assert failures_of(ctx, jobs, "a") == 0


def test_a_machine_gives_up_with_the_true_reason(ctx: Context, jobs: Documents) -> None:
    def step(_document: Document, _ctx: Context) -> Move:
        raise OSError("disk full")

    def failed(_document: Document, reason: str, _ctx: Context) -> Move:
        return Move(status="Failed", body={"FailureReason": reason})

    Machine("Job", failed=failed, one=step)
    jobs.create(ctx, "a", {}, status="InProgress", state="one", due_in=0)
    reconciler = Reconciler(ctx.world)
    for _ in range(ATTEMPTS - 1):
        reconciler.drain()
        advance(ctx, 60)
    assert jobs.get(ctx, "a").status == "InProgress"
    reconciler.drain()
    assert jobs.get(ctx, "a").status == "Failed"
    reason = "InternalServerError: step one failed 8 times: disk full"
    assert jobs.get(ctx, "a").body == {"FailureReason": reason}


def test_a_machine_without_a_way_to_give_up_is_tried_for_ever(ctx: Context, jobs: Documents) -> None:
    def step(_document: Document, _ctx: Context) -> Move:
        raise OSError("disk full")

    Machine("Job", one=step)
    jobs.create(ctx, "a", {}, state="one", due_in=0)
    for _ in range(20):
        Reconciler(ctx.world).drain()
        advance(ctx, 60)
    assert failures_of(ctx, jobs, "a") == 20


def test_a_document_without_a_room_waits_and_holds_nobody_up(ctx: Context, jobs: Documents, tmp_path: Path) -> None:
    three_steps(tmp_path)
    jobs.create(ctx, "odd", {}, state="unheard of", due_in=0)
    jobs.create(ctx, "a", {}, state="three", due_in=0)
    Reconciler(ctx.world).drain()
    assert jobs.get(ctx, "a").status == "Completed"
    assert jobs.get(ctx, "odd").status == ""


def test_endless_steps_are_seen(ctx: Context, jobs: Documents) -> None:
    Machine("Job", one=lambda _document, _ctx: Move())
    jobs.create(ctx, "a", {}, state="one", due_in=0)
    with pytest.raises(RuntimeError, match="after 20"):
        Reconciler(ctx.world).drain(limit=20)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "nothing happened within 30 seconds"
        time.sleep(0.01)


def test_the_loop_runs_steps_when_poked_and_slow_ones_hold_no_others(ctx: Context, jobs: Documents) -> None:
    ctx = replace(ctx, world=replace(ctx.world, clock=SystemClock()))
    gate, entered = threading.Event(), threading.Event()

    def step(document: Document, _ctx: Context) -> Move:
        if document.name == "slow":
            entered.set()
            assert gate.wait(30)
        return Move(status="Completed")

    Machine("Job", one=step)
    reconciler = Reconciler(ctx.world)
    ctx.world.poke = reconciler.poke
    reconciler.start()
    try:
        jobs.create(ctx, "slow", {}, state="one", due_in=0)
        assert entered.wait(30)
        jobs.create(ctx, "quick", {}, state="one", due_in=0.05)
        wait_for(lambda: jobs.get(ctx, "quick").status == "Completed")
        assert jobs.get(ctx, "slow").status == ""
    finally:
        gate.set()
        reconciler.stop()
    assert jobs.get(ctx, "slow").status == "Completed"  # `stop` waits for steps under way


def test_a_disk_that_is_full_at_the_start_is_waited_for(
    ctx: Context, jobs: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is killed with steps under way has leases to give back, which takes room."""
    Machine("Job", one=lambda _document, _ctx: Move(status="Completed"))
    jobs.create(ctx, "a", {}, state="one", due_in=0)
    monkeypatch.setattr("sagesmith.reconciler.AFTER_TROUBLE", 0.01)
    reconciler = Reconciler(ctx.world)
    assert reconciler.due.take(ctx.world.clock.now(), 1), "the row is leased"
    release, refusals = reconciler.due.release_all, iter(range(2))

    def on_a_full_disk() -> None:
        if next(refusals, None) is not None:
            raise OSError(errno.ENOSPC, "the disk of the database is full")
        release()

    monkeypatch.setattr(reconciler.due, "release_all", on_a_full_disk)
    reconciler.start()
    try:
        wait_for(lambda: jobs.get(ctx, "a").status == "Completed")
    finally:
        reconciler.stop()


def run_in_this_process(folder: Path, point: str) -> None:
    """The server of the test below: runs everything that is due, and kills itself at `point`."""

    def interrupt(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    documents()
    three_steps(folder)
    database = Database(f"sqlite:///{folder / 'test.db'}")
    world = World(Config(data=folder), SystemClock(), database, objects=None, engine=None)  # type: ignore[arg-type]
    ctx = Context(world, "123456789012", "us-east-1")
    if KINDS["Job"].find(ctx, "a") is None:
        KINDS["Job"].create(ctx, "a", {}, state="one", due_in=0)
    reconciler = Reconciler(world, interrupt=interrupt)
    world.poke = reconciler.poke
    reconciler.start()
    while KINDS["Job"].get(ctx, "a").status != "Completed":
        time.sleep(0.02)
    reconciler.stop()


@pytest.mark.kill
def test_a_server_killed_at_every_point_in_turn_ends_what_it_began(ctx: Context, jobs: Documents) -> None:
    folder = ctx.world.config.data
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for point in POINTS:
        killed = subprocess.run([sys.executable, __file__, str(folder), point], timeout=60, env=environment)
        if point != POINTS[-1]:  # at the last one the process may notice its own success and end first
            assert killed.returncode == -signal.SIGKILL
    finished = subprocess.run([sys.executable, __file__, str(folder), ""], timeout=60, env=environment)
    assert finished.returncode == 0
    assert jobs.get(ctx, "a").body == {"Runs": 1}


if __name__ == "__main__":
    run_in_this_process(Path(sys.argv[1]), sys.argv[2])
