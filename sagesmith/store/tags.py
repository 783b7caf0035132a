"""Tags: keys and values by ARN. They alone may change after a resource has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, select, update

from sagesmith.core.operation import Context, validation_error
from sagesmith.store.tables import tags as table

MAX_TAGS = 50  # per resource
RESERVED = "aws:"


class Tags:
    """The tags of resources; whether the ARN names one is the caller's to check."""

    def add(self, ctx: Context, arn: str, tags: Iterable[Mapping[str, str]]) -> None:
        """Sets tags (`{"Key", "Value"}`), overwriting those of the same key.

        Raises:
            ApiError: a key twice in the request, a reserved key, or more tags than a resource may have.
        """
        given: dict[str, str] = {}
        for tag in tags:
            if tag["Key"] in given:
                raise validation_error(f"Duplicate tag key {tag['Key']!r}: each key may be given once.")
            if tag["Key"].lower().startswith(RESERVED):
                raise validation_error(f"Tag key {tag['Key']!r} is reserved: keys may not start with {RESERVED!r}.")
            given[tag["Key"]] = tag["Value"]
        with ctx.world.database.transaction() as connection:
            for key, value in given.items():
                row = {"arn": arn, "key": key, "value": value}
                if ctx.world.database.insert_new(connection, table, row) is None:
                    same = (table.c.arn == arn, table.c.key == key)
                    connection.execute(update(table).where(*same).values(value=value))
            if len(self.list(ctx, arn)) > MAX_TAGS:
                raise validation_error(f"{arn} would have more than {MAX_TAGS} tags, which is the limit.")

    def list(self, ctx: Context, arn: str) -> Sequence[dict[str, str]]:
        """The tags of a resource, by key."""
        wanted = select(table.c.key, table.c.value).where(table.c.arn == arn).order_by(table.c.key)
        with ctx.world.database.reading() as connection:
            return [{"Key": key, "Value": value} for key, value in connection.execute(wanted)]

    def remove(self, ctx: Context, arn: str, keys: Iterable[str]) -> None:
        """Removes tags by key; absent ones are no error."""
        with ctx.world.database.transaction() as connection:
            connection.execute(delete(table).where(table.c.arn == arn, table.c.key.in_(list(keys))))

    def clear(self, ctx: Context, arn: str) -> None:
        """Removes every tag of a resource that is being deleted."""
        with ctx.world.database.transaction() as connection:
            connection.execute(delete(table).where(table.c.arn == arn))
