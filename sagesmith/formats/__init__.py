"""Floor 0: bytes to rows and back, by content type. What most callers need is here; the rest is in the modules.

Nothing heavy is imported before it is used, so that servers can know this package at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.format import Format


def decode(body: bytes, content_type: str, **options: Any) -> Batch:
    """The rows of a request body; `options` are those of format.Options, without labels unless they say so.

    Raises:
        NoData: the body holds no row.
        DataError: naming the line or record, or an unknown content type.
    """
    from sagesmith.formats.format import Options, read_body

    return read_body(body, content_type, Options(**{"label_size": 0, **options}))


def encode_records(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A response in RecordIO-protobuf: one record per row, its fields as keys of `label`, float32."""
    from sagesmith.formats.recordio_writer import write_response

    return write_response({name: [row[name] for row in rows] for name in rows[0]}) if rows else b""


def reader_of(content_type: str) -> type[Format]:
    """The class that reads a content type.

    Raises:
        DataError: unknown, listing what is known.
    """
    from sagesmith.formats.content_type import ContentType
    from sagesmith.formats.format import format_of

    return type(format_of(ContentType.parse(content_type)))
