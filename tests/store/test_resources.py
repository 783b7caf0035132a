from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sagesmith.core import events
from sagesmith.core.machine import Document, Move
from sagesmith.core.operation import ApiError, Context
from sagesmith.store.resources import Changed, Documents, Ended
from sagesmith.store.tags import Tags


def test_a_document_reads_back_as_it_was_created(ctx: Context, jobs: Documents) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 250_000, UTC)
    made = jobs.create(ctx, "a", {"When": moment, "Map": {"k": [1, "ü\0"]}}, private={"run": "r"}, parent="p")
    found = jobs.get(ctx, "a")
    assert found == made
    assert found.body == {"When": moment.timestamp(), "Map": {"k": [1, "ü\0"]}}
    assert found.arn == "arn:aws:sagemaker:us-east-1:123456789012:job/a"
    assert (found.private, found.parent, found.created_at, found.due_at) == ({"run": "r"}, "p", ctx.now, None)


def test_names_are_found_by_arn_of_the_same_kind_account_and_region_only(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {})
    assert jobs.find(ctx, made.arn) == made
    for other in (made.arn.replace("job/", "model/"), made.arn.replace("us-east-1", "eu-west-1"), "arn:nonsense"):
        assert jobs.find(ctx, other) is None
    assert jobs.find(replace(ctx, region="eu-west-1"), "a") is None


def test_errors_are_the_rooms_own(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {})
    with pytest.raises(ApiError, match=f"Exists: {made.arn}"):
        jobs.create(ctx, "a", {})
    with pytest.raises(ApiError, match="Missing: b"):
        jobs.get(ctx, "b")
    with pytest.raises(ApiError, match="Missing: b"):
        jobs.change(ctx, "b", lambda _document: Move())


@pytest.mark.parametrize("value", [b"bytes", float("nan"), object()])
def test_what_json_cannot_hold_is_refused(ctx: Context, jobs: Documents, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        jobs.create(ctx, "a", {"Value": value})
    assert jobs.find(ctx, "a") is None


def test_a_move_sets_keeps_and_removes(ctx: Context, jobs: Documents, advance: Callable[[float], None]) -> None:
    made = jobs.create(ctx, "a", {"Keep": 1, "Drop": 2}, status="InProgress", state="one", private={"x": 1}, due_in=0)
    advance(5)
    moved = jobs.save(ctx, made, Move(state="two", body={"Drop": None, "New": 3}, private={"y": 2}, after=10))
    assert moved == jobs.get(ctx, "a")
    assert moved.body == {"Keep": 1, "New": 3}
    assert moved.private == {"x": 1, "y": 2}
    assert (moved.state, moved.status, moved.due_at) == ("two", "InProgress", ctx.now + 10)
    assert moved.modified_at == ctx.now


def test_a_move_that_shows_nothing_new_leaves_the_time_of_modification(
    ctx: Context, jobs: Documents, advance: Callable[[float], None]
) -> None:
    made = jobs.create(ctx, "a", {"x": 1}, state="one", due_in=0)
    advance(5)
    moved = jobs.save(ctx, made, Move(private={"count": 1}, after=1))
    assert moved.modified_at == made.modified_at
    assert moved.version == made.version + 1


def test_a_plain_record_is_never_due(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {})
    assert jobs.save(ctx, made, Move(body={"x": 1})).due_at is None


def test_the_second_of_two_saves_is_told(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {})
    jobs.save(ctx, made, Move(body={"first": 1}))
    with pytest.raises(Changed):
        jobs.save(ctx, made, Move(body={"second": 1}))
    with pytest.raises(Changed):
        jobs.delete(ctx, made)
    assert jobs.get(ctx, "a").body == {"first": 1}


def test_a_successor_of_the_same_name_is_another_document(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {})
    jobs.delete(ctx, made)
    jobs.create(ctx, "a", {"new": 1})
    with pytest.raises(Changed):
        jobs.save(ctx, made, Move(body={"old": 1}))
    assert jobs.get(ctx, "a").body == {"new": 1}


def test_changes_from_many_threads_all_count(ctx: Context, jobs: Documents) -> None:
    jobs.create(ctx, "a", {"n": 0})
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(10):
            jobs.change(ctx, "a", lambda document: Move(body={"n": document.body["n"] + 1}))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result()
    assert jobs.get(ctx, "a").body == {"n": 80}


def test_a_terminal_document_changes_no_more_but_keeps_taking_tags(ctx: Context, jobs: Documents) -> None:
    made = jobs.create(ctx, "a", {}, status="Completed")
    for move in (Move(status="Failed"), Move(body={"x": 1}), Move(after=None)):
        with pytest.raises(Ended, match="Completed"):
            jobs.save(ctx, made, move)
    Tags().add(ctx, made.arn, [{"Key": "k", "Value": "v"}])
    assert Tags().list(ctx, made.arn) == [{"Key": "k", "Value": "v"}]
    jobs.save(ctx, made, Move(delete=True))
    assert jobs.find(ctx, "a") is None
    assert Tags().list(ctx, made.arn) == []


def test_listeners_run_in_the_transaction_that_changes_the_status(
    ctx: Context, jobs: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def listener(document: Document, inner: Context) -> None:
        heard.append(document.status)
        jobs.create(inner, "child", {}, parent=document.arn)
        if len(heard) == 1:
            raise RuntimeError("listener failed")

    monkeypatch.setitem(events._LISTENERS, ("Job", "Failed"), [listener])
    made = jobs.create(ctx, "a", {}, status="InProgress")
    with pytest.raises(RuntimeError, match="listener failed"):
        jobs.save(ctx, made, Move(status="Failed"))
    assert jobs.get(ctx, "a").status == "InProgress"
    assert jobs.find(ctx, "child") is None
    jobs.save(ctx, made, Move(status="Failed"))
    assert [child.name for child in jobs.each(ctx, parent=made.arn)] == ["child"]


def test_the_reconciler_is_woken_after_the_commit_of_what_is_due(ctx: Context, jobs: Documents) -> None:
    poked: list[bool] = []
    ctx.world.poke = lambda: poked.append(jobs.find(ctx, "a") is not None)
    jobs.create(ctx, "record", {})
    assert poked == []
    with ctx.world.database.transaction():
        jobs.create(ctx, "a", {}, state="one", due_in=0)
        assert poked == []
    assert poked == [True]


def test_tags_that_are_not_allowed_leave_no_document(ctx: Context, jobs: Documents) -> None:
    with pytest.raises(ApiError, match="reserved"):
        jobs.create(ctx, "a", {}, tags=[{"Key": "aws:x", "Value": ""}])
    assert jobs.find(ctx, "a") is None
