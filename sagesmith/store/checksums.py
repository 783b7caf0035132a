"""Checksums that S3 knows, by name: update and digest like hashlib's.

CRC32, SHA1, SHA256, SHA512 and MD5 come with Python. CRC32C and CRC64NVME are taken from AWS's own `awscrt`; in plain
Python they would take seconds per megabyte, so where it cannot be imported they are refused.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from sagesmith.core.operation import ApiError

_HASHES = {"MD5", "SHA1", "SHA256", "SHA512"}
_FROM_CRT = {"CRC32C": ("crc32c", 4), "CRC64NVME": ("crc64nvme", 8)}
_REFUSED = {"XXHASH64", "XXHASH3", "XXHASH128"}


class Checksum(Protocol):
    """Grows with the data; `digest` is big-endian bytes, as S3 sends them in base64."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def checksum(algorithm: str) -> Checksum:
    """A fresh checksum.

    Raises:
        ApiError: no such algorithm, or it needs a library that is not installed.
    """
    if algorithm in _HASHES:
        return hashlib.new(algorithm.lower(), usedforsecurity=False)
    if algorithm == "CRC32":
        return _Crc(zlib.crc32, 4)
    if algorithm in _FROM_CRT:
        name, size = _FROM_CRT[algorithm]
        try:
            module = importlib.import_module("awscrt.checksums")
        except ImportError:
            raise ApiError(
                "NotImplemented", f"{algorithm} checksums need the package awscrt on the server; use CRC32.", 501
            ) from None
        return _Crc(getattr(module, name), size)
    if algorithm in _REFUSED:
        raise ApiError("NotImplemented", f"{algorithm} checksums are not implemented by sagesmith; use CRC32.", 501)
    known = sorted({"CRC32", *_HASHES, *_FROM_CRT})
    raise ApiError("InvalidRequest", f"Checksum algorithm {algorithm[:40]!r} is not known; use one of {known}.")


def checksums_of(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Checksums of a file's bytes by algorithm, in base64."""
    growing = {algorithm: checksum(algorithm) for algorithm in algorithms}
    with path.open("rb") as file:
        while growing and (data := file.read(2**20)):
            for one in growing.values():
                one.update(data)
    return {algorithm: base64.b64encode(one.digest()).decode() for algorithm, one in growing.items()}


def composite(algorithm: str, parts: Iterable[str]) -> str:
    """The checksum of a multipart object whose parts have these (base64): that of their bytes, and their number."""
    digests = [base64.b64decode(part) for part in parts]
    total = checksum(algorithm)
    total.update(b"".join(digests))
    return f"{base64.b64encode(total.digest()).decode()}-{len(digests)}"
