"""Source: where bytes come from (a file, a pipe, a request body), with the name that errors give it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from sagesmith.formats.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
READ_BYTES = 64 << 10  # of a buffer; what is asked for beyond it is read without one


@dataclass(frozen=True)
class Source:
    """Bytes to be read once. Files and streams that begin with gzip's magic are unpacked; request bodies never are,
    since a small one could unpack to more than memory."""

    name: str
    path: Path | None = None
    stream: BinaryIO | None = None
    body: bytes | None = None

    @classmethod
    def of_file(cls, path: Path) -> Self:
        return cls(str(path), path=path)

    @classmethod
    def of_stream(cls, name: str, stream: BinaryIO) -> Self:
        return cls(name, stream=stream)

    @classmethod
    def of_body(cls, body: bytes, name: str = "request") -> Self:
        return cls(name, body=body)

    def size(self) -> int | None:
        """Bytes as stored; None when unknown."""
        if self.path is not None:
            return self.path.stat().st_size
        return None if self.body is None else len(self.body)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes from the start, unpacked.

        Raises:
            DataError: the file cannot be opened, or its gzip data is broken (also while the caller reads).
        """
        try:
            if self.body is not None:
                yield io.BytesIO(self.body)
            elif self.path is not None:
                with self.path.open("rb", buffering=READ_BYTES) as file:
                    yield _unpacked(file)
            else:
                assert self.stream is not None
                yield _unpacked(self.stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{self.name}: broken gzip data: {error}") from error
        except (IsADirectoryError, PermissionError, FileNotFoundError) as error:
            raise DataError(f"{self.name}: cannot be opened: {error.strerror}") from error


def _unpacked(stream: BinaryIO) -> BinaryIO:
    buffered = stream if hasattr(stream, "peek") else io.BufferedReader(cast(io.RawIOBase, stream), READ_BYTES)
    if buffered.peek(2)[:2] == GZIP_MAGIC:
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=buffered), READ_BYTES))
    return buffered
