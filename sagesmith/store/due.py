"""Due rows: which documents want their next step, and who is at it.

A row is taken under a lease that names its owner and ends by itself, so several servers may share one database and the
rows of a server that died are taken up by another. The lease only saves double work; what keeps two servers from
committing the same step is the compare-and-swap on the version.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import case, func, or_, select, update

from sagesmith.core.machine import Document
from sagesmith.store.database import Database
from sagesmith.store.resources import document_of
from sagesmith.store.tables import documents as table


class Due:
    """The due rows of a database, as one owner sees them.

    Args:
        owner: names the server; the same after its restart, so that it finds its own leases again.
        lease: seconds after which a row that was neither released nor renewed is anybody's.
    """

    def __init__(self, database: Database, owner: str, lease: float) -> None:
        self.database = database
        self.owner = owner
        self.lease = lease

    def take(self, now: float, limit: int, busy: Collection[int] = ()) -> list[Document]:
        """Leases up to `limit` rows that are due and nobody's, the longest due first; never those in `busy`."""
        free = or_(table.c.lease_until.is_(None), table.c.lease_until <= now)
        wanted = (
            select(table.c.id)
            .where(table.c.due_at <= now, free, table.c.id.not_in(busy))
            .order_by(table.c.due_at, table.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self.database.reading() as connection:  # most of the time there is nothing to lock for
            if connection.execute(wanted).first() is None:
                return []
        leased = update(table).where(table.c.id.in_(wanted.scalar_subquery()))
        leased = leased.values(lease_owner=self.owner, lease_until=now + self.lease)
        with self.database.transaction() as connection:
            rows = connection.execute(leased.returning(table)).all()
        return [document_of(row) for row in sorted(rows, key=lambda row: (row.due_at, row.id))]

    def next_at(self, busy: Collection[int] = ()) -> float | None:
        """When the next row can be taken; None when nothing is waiting."""
        held = case((table.c.lease_until > table.c.due_at, table.c.lease_until), else_=table.c.due_at)
        soonest = select(func.min(held)).where(table.c.due_at.is_not(None), table.c.id.not_in(busy))
        with self.database.reading() as connection:
            moment: float | None = connection.execute(soonest).scalar_one()
        return moment

    def renew(self, ids: Collection[int], now: float) -> None:
        """Extends the leases of steps that are still running."""
        mine = update(table).where(table.c.id.in_(ids), table.c.lease_owner == self.owner)
        with self.database.transaction() as connection:
            connection.execute(mine.values(lease_until=now + self.lease))

    def release(self, row: int) -> None:
        """Gives a row back; part of the transaction that commits its step."""
        mine = update(table).where(table.c.id == row, table.c.lease_owner == self.owner)
        with self.database.transaction() as connection:
            connection.execute(mine.values(lease_owner=None, lease_until=None))

    def release_all(self) -> None:
        """Gives back what this owner held before it was killed."""
        mine = update(table).where(table.c.lease_owner == self.owner)
        with self.database.transaction() as connection:
            connection.execute(mine.values(lease_owner=None, lease_until=None))

    def failures(self, row: int) -> int:
        """How often the row's step has failed without a success in between."""
        with self.database.reading() as connection:
            found = connection.execute(select(table.c.failures).where(table.c.id == row)).scalar_one_or_none()
        return found or 0

    def postpone(self, document: Document, until: float, failures: int) -> None:
        """Notes a failed step and when to try it again, unless the document has changed meanwhile."""
        same = update(table).where(table.c.id == document.id, table.c.version == document.version)
        with self.database.transaction() as connection:
            connection.execute(same.values(failures=failures, due_at=until))
            self.release(document.id)

    def succeeded(self, row: int) -> None:
        """Forgets earlier failures of a row and gives it back."""
        mine = update(table).where(table.c.id == row, table.c.lease_owner == self.owner)
        with self.database.transaction() as connection:
            connection.execute(mine.values(failures=0, lease_owner=None, lease_until=None))
