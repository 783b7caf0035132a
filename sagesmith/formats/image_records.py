"""image_records: MXNet's `.rec` files: pictures with their labels, framed by RecordIO.

A record's payload is a header `IfQQ` (flag, label, id, id2), `flag` further labels as float32, and the encoded picture.
Where the payload holds RecordIO's magic on a four-byte boundary, the writer leaves it out and splits the frame there
(continuation flags 1, 2, 3); a reader puts the magic back. Layout: dmlc-core's recordio.cc and MXNet's recordio.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import HEADER, LONGEST_FRAME, MAGIC

IMAGE_HEADER = struct.Struct("<IfQQ")
MAGIC_BYTES = struct.pack("<I", MAGIC)
WHOLE, FIRST, MIDDLE, LAST = range(4)  # the upper three bits of a frame's length


class ImageRecord(NamedTuple):
    """One record: a picture with its label or labels."""

    label: np.ndarray  # float32 (n,); n is 1 where the header holds the label
    id: int
    data: bytes | memoryview  # the encoded picture


def unpacked(payload: bytes | memoryview, where: str) -> ImageRecord:
    """A record from the payload of its frame.

    Raises:
        DataError: naming `where`: too short for its header or labels, or without a picture.
    """
    if len(payload) < IMAGE_HEADER.size:
        raise DataError(f"{where}: {len(payload)} bytes are too few for the {IMAGE_HEADER.size} of an image header")
    flag, label, number, _ = IMAGE_HEADER.unpack_from(payload)
    start = IMAGE_HEADER.size + 4 * flag
    if start >= len(payload):
        what = f"an image header with {flag} labels takes {start} bytes, the record has {len(payload)}"
        raise DataError(f"{where}: {what}: is this a file of im2rec's, with pictures in it?")
    labels = np.frombuffer(payload, "<f4", flag, IMAGE_HEADER.size) if flag else np.array([label], np.float32)
    return ImageRecord(labels.astype(np.float32), number, payload[start:])


def packed(record: ImageRecord, *, as_vector: bool = False) -> bytes:
    """A frame's payload. A single label goes into the header, unless `as_vector`; several go behind it."""
    labels = np.asarray(record.label, "<f4").ravel()
    if len(labels) == 1 and not as_vector:
        return IMAGE_HEADER.pack(0, labels[0], record.id, 0) + record.data
    return b"".join([IMAGE_HEADER.pack(len(labels), 0.0, record.id, 0), labels.tobytes(), record.data])


def framed(payload: bytes) -> bytes:
    """The frame or frames of a payload, split where it holds the magic, padded with zeros.

    Raises:
        DataError: the payload is longer than 29 bits can say.
    """
    if len(payload) >= LONGEST_FRAME:
        raise DataError(f"a record holds less than {LONGEST_FRAME} bytes, not {len(payload)}")
    parts, begin = [], 0
    at = payload.find(MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            parts.append(payload[begin:at])
            begin = at + 4
        at = payload.find(MAGIC_BYTES, at + (4 if at % 4 == 0 else 1))
    parts.append(payload[begin:])
    if len(parts) == 1:
        return _frame(WHOLE, payload)
    flags = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    return b"".join(_frame(flag, part) for flag, part in zip(flags, parts, strict=True))


def _frame(flag: int, part: bytes) -> bytes:
    return HEADER.pack(MAGIC, flag << 29 | len(part)) + part + bytes(-len(part) % 4)


def _head(data: bytes | memoryview, at: int, where: str) -> tuple[int, int]:
    """Flag and length of the frame whose header is at `at`."""
    if len(data) - at < HEADER.size:
        raise DataError(f"{where}: truncated: {len(data) - at} of the {HEADER.size} bytes of a RecordIO header")
    magic, length = HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise DataError(f"{where}: begins with {magic:#010x}, not RecordIO's magic {MAGIC:#010x}")
    return length >> 29, length & (LONGEST_FRAME - 1)


class _Joining:
    """Puts split payloads together again."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []

    def take(self, flag: int, part: bytes | memoryview, where: str) -> bytes | memoryview | None:
        """The whole payload, once its last part is there."""
        if flag not in (WHOLE, FIRST, MIDDLE, LAST) or bool(self._parts) != (flag in (MIDDLE, LAST)):
            raise DataError(f"{where}: continuation flag {flag} does not fit the frame before it")
        if flag == WHOLE:
            return part
        self._parts += [part] if flag == FIRST else [MAGIC_BYTES, part]
        if flag != LAST:
            return None
        whole = b"".join(self._parts)
        self._parts = []
        return whole

    def end(self, where: str) -> None:
        if self._parts:
            raise DataError(f"{where}: truncated: the last part of a split record is missing")


def scan(data: bytes | memoryview, name: str) -> np.ndarray:
    """Where the records of a `.rec` file begin, and last where it ends: (n + 1,) int64.

    Looks at nothing but the frames' headers.

    Raises:
        DataError: naming the record, counted from 1: no RecordIO, or truncated.
    """
    starts: list[int] = []
    at, inside = 0, False
    while at < len(data):
        where = f"{name}, record {len(starts) + (not inside)}"
        flag, length = _head(data, at, where)
        if flag > LAST or inside != (flag in (MIDDLE, LAST)):
            raise DataError(f"{where}: continuation flag {flag} does not fit the frame before it")
        if not inside:
            starts.append(at)
        inside = flag in (FIRST, MIDDLE)
        at += HEADER.size + length
        if at > len(data):
            raise DataError(f"{where}: truncated: {length - (at - len(data))} of {length} bytes")
        at += -length % 4  # some writers leave the last padding off
    if inside:
        raise DataError(f"{name}, record {len(starts)}: truncated: the last part of a split record is missing")
    return np.array([*starts, min(at, len(data))], np.int64)


def record_at(data: bytes | memoryview, start: int, where: str) -> ImageRecord:
    """The record whose first frame begins at `start`; its picture is a view of `data`, if it was not split.

    Raises:
        DataError: as `scan` and `unpacked`.
    """
    joining, whole = _Joining(), None
    while whole is None:
        flag, length = _head(data, start, where)
        begin = start + HEADER.size
        if begin + length > len(data):
            raise DataError(f"{where}: truncated: {len(data) - begin} of {length} bytes")
        whole = joining.take(flag, data[begin : begin + length], where)
        start = begin + length + -length % 4
    return unpacked(whole, where)


def payloads(stream: BinaryIO, name: str) -> Iterator[bytes | memoryview]:
    """The payloads of a stream of frames, split ones put together; one in memory at a time.

    Raises:
        DataError: as `scan`.
    """
    joining, number = _Joining(), 1
    while header := _all_of(stream, HEADER.size):
        where = f"{name}, record {number}"
        flag, length = _head(header, 0, where)
        content = _all_of(stream, length + -length % 4)
        if len(content) < length:
            raise DataError(f"{where}: truncated: {len(content)} of {length} bytes")
        payload = joining.take(flag, content[:length], where)
        if payload is not None:
            yield payload
            number += 1
    joining.end(f"{name}, record {number}")


def _all_of(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes, or as many as are left: pipes give what they have."""
    data = stream.read(size)
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def records(stream: BinaryIO, name: str) -> Iterator[ImageRecord]:
    """The records of a `.rec` stream (a pipe), one in memory at a time.

    Raises:
        DataError: as `scan` and `unpacked`.
    """
    for number, payload in enumerate(payloads(stream, name), 1):
        yield unpacked(payload, f"{name}, record {number}")


class RecordWriter:
    """Writes a `.rec` file and the `.idx` that MXNet's MXIndexedRecordIO reads: id TAB offset, a line each.

    Args:
        index: of the `.idx`; None: beside the records.
    """

    def __init__(self, path: Path, index: Path | None = None) -> None:
        self._records = path.open("wb")
        self._index = (index or path.with_suffix(".idx")).open("w", encoding="ascii", newline="\n")

    def write(self, record: ImageRecord, *, as_vector: bool = False) -> None:
        """Appends a record. `as_vector`: see `packed`.

        Raises:
            DataError: it does not fit in 29 bits.
        """
        frames = framed(packed(record, as_vector=as_vector))
        self._index.write(f"{record.id}\t{self._records.tell()}\n")
        self._records.write(frames)

    def close(self) -> None:
        self._records.close()
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
