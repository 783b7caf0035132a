"""RemoteReader: one version of a large remote object as a seekable file, fetched as it is read."""

from __future__ import annotations

import contextlib
import errno
import io
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError


class RemoteReader(io.RawIOBase):
    """Reads ahead in one request until somebody seeks elsewhere.

    Raises (from reads):
        OSError: the object was replaced or removed, or the server cannot be asked.
    """

    def __init__(self, client: Any, bucket: str, key: str, etag: str, size: int) -> None:
        self._client = client
        self._object = {"Bucket": bucket, "Key": key, "IfMatch": f'"{etag}"'}
        self._size = size
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        position = max(0, start + offset)
        if position != self._position:
            self._drop()
            self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        try:
            if self._body is None:
                answer = self._client.get_object(**self._object, Range=f"bytes={self._position}-")
                self._body = answer["Body"]
            data = self._body.read(len(buffer))
        except (BotoCoreError, ClientError) as error:
            self._drop()
            raise OSError(errno.EIO, f"{self._object['Key']!r} cannot be read on: {error}") from error
        if not data:
            raise OSError(errno.EIO, f"{self._object['Key']!r} ended {self._size - self._position} bytes early")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._body is not None:
            with contextlib.suppress(BotoCoreError, OSError):
                self._body.close()
            self._body = None
