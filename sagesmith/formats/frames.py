"""Frames: RecordIO's framing, without looking inside; for records, image archives and wrapped channels.

A frame is magic 0xCED7230A, length (both little-endian uint32), payload, zero padding to a multiple of four. MXNet
keeps the upper three bits of the length for splitting a long payload; SageMaker's writer never sets them, and here
they are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from sagesmith.formats.errors import DataError

MAGIC = 0xCED7230A
HEADER = struct.Struct("<II")
LONGEST_FRAME = 1 << 29  # what 29 bits can say


def frame(payload: bytes) -> bytes:
    """One frame around a payload.

    Raises:
        DataError: the payload is longer than 29 bits can say.
    """
    if len(payload) >= LONGEST_FRAME:
        raise DataError(f"a RecordIO frame holds less than {LONGEST_FRAME} bytes, not {len(payload)}")
    return HEADER.pack(MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)


def frames(stream: BinaryIO, name: str = "RecordIO", *, most: int = LONGEST_FRAME) -> Iterator[bytes]:
    """The payloads of a stream, one in memory at a time; `most` limits how many bytes a frame may have.

    Raises:
        DataError: wrong magic, continuation bits, too long or truncated; naming the record, counted from 1.
    """
    record = 1
    while header := stream.read(HEADER.size):
        length = payload_bytes(header, 0, f"{name}, record {record}", most)
        padded = length + -length % 4
        content = stream.read(padded)
        if len(content) < length:
            raise DataError(f"{name}, record {record}: truncated: {len(content)} of {length} bytes")
        yield content[:length]
        record += 1


def payload_bytes(data: bytes | memoryview, at: int, where: str, most: int = LONGEST_FRAME) -> int:
    """The payload's length, from the header at `at`.

    Raises:
        DataError: no header that we can read.
    """
    if len(data) - at < HEADER.size:
        raise DataError(f"{where}: truncated: {len(data) - at} of the {HEADER.size} bytes of a RecordIO header")
    magic, length = HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise DataError(f"{where}: begins with {magic:#010x}, not RecordIO's magic {MAGIC:#010x}")
    if length >> 29:
        raise DataError(f"{where}: continuation flag {length >> 29} is set; split frames are not supported")
    if length > most:
        raise DataError(f"{where}: says it has {length} bytes, the most allowed is {most}")
    return int(length)
