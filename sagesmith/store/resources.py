"""Documents: one table for every resource; create, find, change and delete with versions.

    jobs = Documents("TrainingJob", arn="training-job", missing=..., exists=..., terminal=("Completed", "Failed"))

A change is a Move, committed by compare-and-swap on the document's version; whoever comes second reads again. Listeners
(`core.events`) run inside the transaction that changes a status.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, select, update

from sagesmith.core import events, names
from sagesmith.core.machine import Document, Move
from sagesmith.core.operation import ApiError, Context
from sagesmith.store import listing, tags
from sagesmith.store.tables import documents as table

KINDS: dict[str, Documents] = {}


class Changed(Exception):
    """Somebody else changed the document since it was read."""


class Ended(Exception):
    """The document has reached a terminal status and never changes again."""


class Documents:
    """The documents of one kind.

    Args:
        kind: AWS's name of the resource, `TrainingJob`.
        arn: the resource part of its ARN, `training-job`.
        missing: makes the error for a name that is not there.
        exists: makes the error for creating a name that is there already; given the ARN.
        terminal: statuses that end the machine; afterwards a document may only be deleted.
    """

    def __init__(
        self,
        kind: str,
        *,
        arn: str,
        missing: Callable[[str], ApiError],
        exists: Callable[[str], ApiError],
        terminal: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self.arn = arn
        self.missing = missing
        self.exists = exists
        self.terminal = frozenset(terminal)
        KINDS[kind] = self

    def arn_of(self, ctx: Context, name: str) -> str:
        """The ARN that a document of this name has or would have."""
        return names.arn(ctx.region, ctx.account, self.arn, name)

    def create(
        self,
        ctx: Context,
        name: str,
        body: Mapping[str, Any],
        *,
        status: str = "",
        state: str = "",
        private: Mapping[str, Any] | None = None,
        parent: str = "",
        due_in: float | None = None,
        tags: Iterable[Mapping[str, str]] = (),
    ) -> Document:
        """Inserts a document; with `due_in` its machine takes the first step so many seconds from now.

        Raises:
            ApiError: the name is taken (the error of `exists`), or the tags are not allowed.
        """
        document = Document(
            kind=self.kind,
            account=ctx.account,
            region=ctx.region,
            name=name,
            arn=self.arn_of(ctx, name),
            body=_plain(body),
            private=_plain(private or {}),
            status=status,
            state=state,
            parent=parent,
            due_at=None if due_in is None else ctx.now + due_in,
            created_at=ctx.now,
            modified_at=ctx.now,
        )
        with ctx.world.database.transaction() as connection:
            row_id = ctx.world.database.insert_new(connection, table, _columns(document))
            if row_id is None:
                raise self.exists(document.arn)
            document.id = row_id
            _set_tags(ctx, document, tags)
            _announce(ctx, document, status_changed=bool(status))
        return document

    def find(self, ctx: Context, name_or_arn: str) -> Document | None:
        """The document of that name or ARN in the caller's account and region, or None."""
        name = self._name(ctx, name_or_arn)
        if name is None:
            return None
        with ctx.world.database.reading() as connection:
            row = connection.execute(select(table).where(*self._mine(ctx), table.c.name == name)).one_or_none()
        return None if row is None else document_of(row)

    def get(self, ctx: Context, name_or_arn: str) -> Document:
        """The document of that name or ARN; raises the error of `missing`."""
        document = self.find(ctx, name_or_arn)
        if document is None:
            raise self.missing(name_or_arn)
        return document

    def save(self, ctx: Context, document: Document, move: Move) -> Document:
        """Commits a move of the document as it was read, and returns it as it is now.

        Raises:
            Changed: it is no longer as it was read.
            Ended: it has ended; only `delete` is possible.
        """
        if document.status in self.terminal and not move.delete:
            raise Ended(f"{self.kind} {document.name} is {document.status} and never changes again")
        if move.delete:
            self.delete(ctx, document)
            return document
        changed = _moved(document, move, ctx.now)
        if changed.status in self.terminal:
            changed.due_at = None
        with ctx.world.database.transaction() as connection:
            written = connection.execute(update(table).where(*_as_read(document)).values(_columns(changed)))
            if written.rowcount == 0:
                raise Changed(f"{self.kind} {document.name}, version {document.version}")
            _announce(ctx, changed, status_changed=changed.status != document.status)
        return changed

    def change(self, ctx: Context, name_or_arn: str, decide: Callable[[Document], Move]) -> Document:
        """Reads, decides and saves in one transaction, so that nobody comes in between.

        Raises:
            ApiError: it is missing, or whatever `decide` raises.
            Ended: it has ended.
        """
        name = self._name(ctx, name_or_arn)
        with ctx.world.database.transaction() as connection:
            mine = select(table).where(*self._mine(ctx), table.c.name == name).with_for_update()
            row = None if name is None else connection.execute(mine).one_or_none()
            if row is None:
                raise self.missing(name_or_arn)
            document = document_of(row)
            return self.save(ctx, document, decide(document))

    def delete(self, ctx: Context, document: Document) -> None:
        """Removes the document, as it was read, and its tags.

        Raises:
            Changed: it is no longer as it was read.
        """
        with ctx.world.database.transaction() as connection:
            if connection.execute(delete(table).where(*_as_read(document))).rowcount == 0:
                raise Changed(f"{self.kind} {document.name}, version {document.version}")
            tags.Tags().clear(ctx, document.arn)

    def each(self, ctx: Context, **where: Any) -> Iterator[Document]:
        """Every document whose columns equal `where` (`parent=arn`, `status="Failed"`), oldest first."""
        wanted = [table.c[column] == value for column, value in where.items()]
        with ctx.world.database.reading() as connection:
            rows = connection.execute(select(table).where(*self._mine(ctx), *wanted).order_by(table.c.id)).all()
        return map(document_of, rows)

    def page(
        self,
        ctx: Context,
        request: Mapping[str, Any],
        *,
        key: str,
        summary: Callable[[Document], dict[str, Any]],
        sort: Mapping[str, str] | None = None,
        default_sort: str = "CreationTime",
        default_order: str = "Descending",
        where: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One page of a List operation: `{key: [summary, …], "NextToken": …}`; see `store.listing` for the grammar.

        Args:
            sort: `SortBy` value -> column of the documents table.
            where: column -> value that it must have, or a list of them.
        """
        order = listing.Order.of(request, sort, default_sort, default_order)
        conditions = [*self._mine(ctx), *listing.equal(where or {})]
        rows, token = listing.page(ctx, request, conditions, order, context=(self.kind, key))
        answer: dict[str, Any] = {key: [summary(document_of(row)) for row in rows]}
        return answer | ({"NextToken": token} if token else {})

    def _mine(self, ctx: Context) -> list[ColumnElement[bool]]:
        return [table.c.kind == self.kind, table.c.account == ctx.account, table.c.region == ctx.region]

    def _name(self, ctx: Context, name_or_arn: str) -> str | None:
        """The name, or None for an ARN of another kind, account or region."""
        if not name_or_arn.startswith("arn:"):
            return name_or_arn
        try:
            arn = names.Arn.parse(name_or_arn)
        except ValueError:
            return None
        return arn.name if (arn.kind, arn.account, arn.region) == (self.arn, ctx.account, ctx.region) else None


def document_of(row: Row[Any]) -> Document:
    """The document in a row of the table."""
    return Document(
        kind=row.kind,
        account=row.account,
        region=row.region,
        name=row.name,
        arn=row.arn,
        body=json.loads(row.body),
        private=json.loads(row.private),
        status=row.status,
        state=row.state,
        parent=row.parent,
        due_at=row.due_at,
        created_at=row.created_at,
        modified_at=row.modified_at,
        version=row.version,
        id=row.id,
    )


def _columns(document: Document) -> dict[str, Any]:
    columns = {name: value for name, value in vars(document).items() if name != "id"}
    return columns | {"body": _json(document.body), "private": _json(document.private)}


def _as_read(document: Document) -> list[ColumnElement[bool]]:
    return [table.c.id == document.id, table.c.version == document.version]


def _moved(document: Document, move: Move, now: float) -> Document:
    body = _merged(document.body, move.body)
    status = document.status if move.status is None else move.status
    state = document.state if move.state is None else move.state
    visible = body != document.body or status != document.status
    return replace(
        document,
        state=state,
        status=status,
        body=body,
        private=_merged(document.private, move.private),
        due_at=None if move.after is None or not state else now + move.after,
        modified_at=now if visible else document.modified_at,
        version=document.version + 1,
    )


def _merged(members: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    merged = {**members, **_plain(changes or {})}
    return {name: value for name, value in merged.items() if value is not None}


def _announce(ctx: Context, document: Document, *, status_changed: bool) -> None:
    if status_changed:
        events.emit(document, ctx)
    if document.due_at is not None:
        ctx.world.database.after_commit(ctx.world.poke)


def _set_tags(ctx: Context, document: Document, given: Iterable[Mapping[str, str]]) -> None:
    given = list(given)
    if given:
        tags.Tags().add(ctx, document.arn, given)


def _plain(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members as JSON keeps them, so that a document is the same before and after it is stored."""
    plain: dict[str, Any] = json.loads(_json(members))
    return plain


def _json(members: Mapping[str, Any]) -> str:
    return json.dumps(members, default=_epoch, allow_nan=False, separators=(",", ":"))


def _epoch(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"a document cannot hold {type(value).__name__}: {value!r}")
