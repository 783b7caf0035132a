"""AWS's List grammar over the documents table: filters, order, pages.

`NameContains` (ignoring case), `CreationTimeAfter`/`Before`, `LastModifiedTimeAfter`/`Before`, `StatusEquals`,
`SortBy`, `SortOrder`, `MaxResults` (10 unless given) and `NextToken`. A token holds the sort key of the last item, so
pages neither repeat nor skip what stays in place, and a checksum that binds it to the question it was given for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select, tuple_

from sagesmith.core.operation import ApiError, Context, validation_error
from sagesmith.store.tables import documents as table

SORT = {"Name": "name", "CreationTime": "created_at", "LastModifiedTime": "modified_at", "Status": "status"}
DEFAULT_PAGE = 10
_CHECKSUM_BYTES = 16
_PAGING = ("NextToken", "MaxResults")


@dataclass(frozen=True)
class Order:
    """By which column, and which way."""

    column: str
    descending: bool

    @classmethod
    def of(cls, request: Mapping[str, Any], sort: Mapping[str, str] | None, by: str, order: str) -> Order:
        """The order that the request asks for, else `by` and `order`.

        Raises:
            ApiError: a SortBy that this list does not have.
        """
        columns = SORT if sort is None else sort
        wanted = request.get("SortBy", by)
        if wanted not in columns:
            raise validation_error(f"SortBy {wanted!r} is not supported; allowed are: {', '.join(columns)}")
        return cls(columns[wanted], request.get("SortOrder", order) == "Descending")


def equal(where: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Conditions `column = value`, or `column in values` for a list."""
    return [
        table.c[column].in_(value) if isinstance(value, list | tuple | set | frozenset) else table.c[column] == value
        for column, value in where.items()
    ]


def page(
    ctx: Context,
    request: Mapping[str, Any],
    conditions: Sequence[ColumnElement[bool]],
    order: Order,
    context: Sequence[str],
) -> tuple[Sequence[Row[Any]], str]:
    """The rows of one page and the token of the next, "" at the end.

    Raises:
        ApiError: NextToken was altered, or given for another question.
    """
    secret = ctx.world.database.secret
    question = _question(request, [*context, ctx.account, ctx.region])
    key = tuple_(table.c[order.column], table.c.id)
    statement = select(table).where(*conditions, *_filters(request))
    if token := request.get("NextToken"):
        last = tuple_(*read_token(token, question, secret))
        statement = statement.where(key < last if order.descending else key > last)
    columns = (table.c[order.column], table.c.id)
    statement = statement.order_by(*(column.desc() if order.descending else column.asc() for column in columns))
    size = request.get("MaxResults", DEFAULT_PAGE)
    with ctx.world.database.reading() as connection:
        rows = connection.execute(statement.limit(size + 1)).all()
    if len(rows) <= size:
        return rows, ""
    rows = rows[:size]
    return rows, write_token([getattr(rows[-1], order.column), rows[-1].id], question, secret)


def write_token(position: Sequence[Any], question: str, secret: bytes) -> str:
    """An opaque NextToken for `position`."""
    payload = json.dumps(position).encode()
    return base64.urlsafe_b64encode(_checksum(payload, question, secret) + payload).decode()


def read_token(token: str, question: str, secret: bytes) -> list[Any]:
    """The position in a NextToken; raises ApiError when it was altered or belongs to another question."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad_token() from None
    checksum, payload = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    if not hmac.compare_digest(checksum, _checksum(payload, question, secret)):
        raise _bad_token()
    position: list[Any] = json.loads(payload)
    return position


def _bad_token() -> ApiError:
    return validation_error("NextToken is not one that this operation returned for the same request parameters.")


def _checksum(payload: bytes, question: str, secret: bytes) -> bytes:
    return hmac.digest(secret, question.encode() + b"\0" + payload, hashlib.sha256)[:_CHECKSUM_BYTES]


def _question(request: Mapping[str, Any], context: Sequence[str]) -> str:
    asked = {name: value for name, value in request.items() if name not in _PAGING}
    return json.dumps([*context, asked], sort_keys=True, default=_seconds)


def _filters(request: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for prefix, column in (("CreationTime", table.c.created_at), ("LastModifiedTime", table.c.modified_at)):
        if (after := request.get(f"{prefix}After")) is not None:
            conditions.append(column > _seconds(after))
        if (before := request.get(f"{prefix}Before")) is not None:
            conditions.append(column < _seconds(before))
    if part := request.get("NameContains"):
        conditions.append(table.c.name.icontains(part, autoescape=True))
    if status := request.get("StatusEquals"):
        conditions.append(table.c.status == status)
    return conditions


def _seconds(moment: Any) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else float(moment)
