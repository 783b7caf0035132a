"""Objects: bytes under bucket and key. Seven methods; a local folder or any S3 behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol


class NoSuchObject(KeyError):
    """There is no object under that bucket and key."""


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object besides its bytes."""

    key: str
    size: int
    etag: str  # without quotes
    modified: float  # seconds since the epoch
    headers: Mapping[str, str] = field(default_factory=dict)  # content-type, content-encoding, …, x-amz-meta-*
    checksums: Mapping[str, str] = field(default_factory=dict)  # CRC32, SHA256, … → base64
    tags: Mapping[str, str] = field(default_factory=dict)


class Objects(Protocol):
    """An object store. Writes are atomic, and durable when the method returns."""

    def put(self, bucket: str, key: str, source: bytes | Path, info: ObjectInfo | None = None) -> ObjectInfo:
        """Stores bytes, or takes over the file at `source` (it is moved), with the headers and tags of `info`."""
        ...

    def get(self, bucket: str, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of an object.

        Raises:
            NoSuchObject: there is none.
        """
        ...

    def open(self, bucket: str, key: str) -> BinaryIO:
        """A seekable reader of the object as it is now, whatever is written later."""
        ...

    def head(self, bucket: str, key: str) -> ObjectInfo:
        """What is known of an object; raises NoSuchObject."""
        ...

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix` and is greater than `after`, in UTF-8 byte order of the key."""
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Removes an object; nothing happens when there is none."""
        ...

    def path(self, bucket: str, key: str) -> Path | None:
        """The plain file that holds the object, where the store has one on this host (for FastFile and sendfile)."""
        ...
