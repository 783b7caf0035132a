"""Objects: bytes under bucket and key. A local folder or any S3 behind them.

Keys are 1 to 1,024 bytes of UTF-8 and otherwise free: `../x`, `a//b` and `.` are names like any other.
`sagesmith.testing.check_objects` is the conformance kit; every implementation passes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

MAX_KEY_BYTES = 1024


class NoSuchObject(KeyError):
    """There is no object under that bucket and key."""


class NoSuchBucket(NoSuchObject):
    """There is no bucket of that name."""


class BucketExists(ValueError):
    """There is a bucket of that name already."""


class BucketNotEmpty(ValueError):
    """A bucket that still holds something cannot be deleted."""


class PreconditionFailed(ValueError):
    """The object under the key is not what the writer demanded; `found` is its ETag, "" when there is none."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the object's ETag is {found!r}" if found else "there is no such object")
        self.found = found


class BadKey(ValueError):
    """A key that is empty, longer than 1,024 bytes, or not Unicode."""


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


@dataclass(frozen=True)
class BucketInfo:
    """A bucket: its name, when it was made (seconds since the epoch) and where its maker said it is."""

    name: str
    created: float
    region: str = ""


@dataclass(frozen=True)
class CommonPrefix:
    """All keys that share `prefix` up to and including the delimiter, rolled into one entry of a listing."""

    prefix: str


class Objects(Protocol):
    """An object store. Writes are atomic, and durable when the method returns.

    Every method that names a bucket raises NoSuchBucket when there is none, and BadKey for a key that is none.
    """

    @property
    def scratch(self) -> Path:
        """A folder for temporary files; `put` takes a file over from here without copying where it can."""
        ...

    def create_bucket(self, bucket: str, region: str = "") -> BucketInfo:
        """Makes a bucket; raises BucketExists."""
        ...

    def bucket(self, bucket: str) -> BucketInfo:
        """What is known of a bucket."""
        ...

    def buckets(self) -> list[BucketInfo]:
        """All buckets by name."""
        ...

    def delete_bucket(self, bucket: str) -> None:
        """Removes an empty bucket; raises BucketNotEmpty."""
        ...

    def put(
        self,
        bucket: str,
        key: str,
        source: bytes | Path,
        info: ObjectInfo | None = None,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        """Stores bytes, or takes over the file at `source` (it is moved), with the headers and tags of `info`.

        An ETag in `info` is kept (multipart uploads); without one it is the MD5 of the bytes.

        Raises:
            PreconditionFailed: `if_match` is not the ETag of the present object, or `if_absent` and there is one.
        """
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

    def read(self, bucket: str, key: str) -> tuple[ObjectInfo, BinaryIO]:
        """`head` and `open` of one and the same version."""
        ...

    def head(self, bucket: str, key: str) -> ObjectInfo:
        """What is known of an object; raises NoSuchObject."""
        ...

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix` and is greater than `after`, in UTF-8 byte order of the key."""
        ...

    def list_folders(
        self, bucket: str, prefix: str, delimiter: str, after: str = ""
    ) -> Iterator[ObjectInfo | CommonPrefix]:
        """Like `list`, but keys with the delimiter after `prefix` come once, as the CommonPrefix they share.

        Common prefixes that are not greater than `after` are left out whole.
        """
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Removes an object; nothing happens when there is none."""
        ...

    def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replaces the tags of an object and nothing else of it; raises NoSuchObject."""
        ...

    def path(self, bucket: str, key: str) -> Path | None:
        """The plain file that holds the object, where the store has one on this host (for FastFile and sendfile)."""
        ...


def check_key(key: str) -> bytes:
    """The key in UTF-8.

    Raises:
        BadKey: it is empty, over 1,024 bytes, or holds lone surrogates.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise BadKey("a key must be UTF-8 text") from None
    if not encoded:
        raise BadKey("a key must not be empty")
    if len(encoded) > MAX_KEY_BYTES:
        raise BadKey(f"a key has at most {MAX_KEY_BYTES} bytes of UTF-8, this one has {len(encoded)}")
    return encoded
