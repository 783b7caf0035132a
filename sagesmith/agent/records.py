"""Records of an object, split as SplitType says, from a stream of chunks: no more is held than one record."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

from sagesmith.formats.frames import MAGIC

CHUNK = 1 << 20  # bytes of content that are inflated at a time


class RecordError(ValueError):
    """An object that cannot be split, or a record that is too large."""


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip stream, which may have several members.

    Raises:
        RecordError: it is damaged or ends too early.
    """
    inflate = zlib.decompressobj(31)
    for chunk in chunks:
        pending = True  # zlib may hold content back that did not fit into CHUNK
        while chunk or pending:
            if inflate.eof:
                inflate = zlib.decompressobj(31)
            try:
                content = inflate.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise RecordError(f"it is not valid gzip: {error}") from None
            yield content
            chunk = inflate.unconsumed_tail or inflate.unused_data
            pending = len(content) == CHUNK and not inflate.eof
    if not inflate.eof:
        raise RecordError("its gzip stream ends too early")


def split(chunks: Iterable[bytes], split_type: str, limit: int) -> Iterator[bytes]:
    """The records of an object.

    Args:
        split_type: None (the whole object), Line (without their line ends), RecordIO or TFRecord (with their frames).
        limit: bytes that a record may have.

    Raises:
        RecordError: a record is larger than `limit`, or a frame is damaged; naming its number, counted from 1.
    """
    splitters: dict[str, Callable[[Iterable[bytes], int], Iterator[bytes]]] = {
        "None": _whole,
        "Line": _lines,
        "RecordIO": _recordio,
        "TFRecord": _tfrecord,
    }
    return splitters[split_type](chunks, limit)


def _whole(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > limit:
            raise RecordError(f"it has more than {limit} bytes, which MaxPayloadInMB allows; SplitType may divide it")
    yield bytes(content)


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    number, rest = 1, bytearray()
    for chunk in chunks:
        rest += chunk
        lines = rest.split(b"\n") if b"\n" in chunk else [rest]
        for line in lines:
            if len(line) > limit + 1:  # one more for a carriage return
                raise RecordError(f"record {number} has more than {limit} bytes, which MaxPayloadInMB allows")
            if line is not lines[-1]:
                number += 1
                if stripped := bytes(line).removesuffix(b"\r"):
                    yield stripped
        rest = lines[-1]
    if last := bytes(rest).removesuffix(b"\r"):
        yield last


class _Window:
    """The bytes of a stream, so many at a time."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._bytes = bytearray()

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end of the stream."""
        while len(self._bytes) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._bytes += chunk
        taken = bytes(self._bytes[:count])
        del self._bytes[:count]
        return taken


def _recordio(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    window, number = _Window(chunks), 0
    while head := window.take(8):
        number += 1
        if len(head) < 8:
            raise RecordError(f"record {number} ends within its header")
        magic, length = struct.unpack("<II", head)
        if magic != MAGIC:
            raise RecordError(f"record {number} does not begin with the magic number of RecordIO")
        yield _framed(window, head, length, -length % 4, number, limit)


def _tfrecord(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    window, number = _Window(chunks), 0
    while head := window.take(12):
        number += 1
        if len(head) < 12:
            raise RecordError(f"record {number} ends within its header")
        yield _framed(window, head, struct.unpack("<Q", head[:8])[0], 4, number, limit)


def _framed(window: _Window, head: bytes, length: int, tail: int, number: int, limit: int) -> bytes:
    """A record with its frame: header, `length` bytes, `tail` bytes of padding or checksum."""
    if len(head) + length + tail > limit:
        raise RecordError(f"record {number} has {length} bytes, more than MaxPayloadInMB allows ({limit})")
    content = window.take(length + tail)
    if len(content) < length + tail:
        raise RecordError(f"record {number} should have {length} bytes and the object ends after {len(content)}")
    return head + content


def batches(records: Iterable[bytes], separator: bytes, limit: int, together: bool) -> Iterator[list[bytes]]:
    """Records in groups whose payload, joined by `separator`, has up to `limit` bytes; one by one unless `together`."""
    group: list[bytes] = []
    size = 0
    for record in records:
        grown = size + len(separator) + len(record)
        if group and (not together or grown > limit):
            yield group
            group, size = [], 0
        size = size + len(separator) + len(record) if group else len(record)
        group.append(record)
    if group:
        yield group
