"""streams: labelled pictures that come one after another, once per pass: pipes, and shuffling in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from sagesmith.algorithms.images.pictures import Picture
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import MAGIC
from sagesmith.formats.image_records import payloads, unpacked

HELD_PICTURES = 4096  # of a shuffle buffer,
HELD_BYTES = 256 << 20  # and their bytes
MAGIC_BYTES = MAGIC.to_bytes(4, "little")


class PictureStream:
    """Pictures in passes: every iteration is one pass over the same pictures, from the first on.

    Args:
        begin: starts a pass.
    """

    def __init__(self, begin: Callable[[], Iterator[Picture]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Picture]:
        return self._begin()


def streamed(channel: Channel) -> PictureStream:
    """The pictures of a Pipe channel: records of `.rec` files, or the attributes of an augmented manifest.

    Wrapped in RecordIO, a manifest's attributes come one in a frame, picture first, label second; a frame may also be
    a `.rec` file. An unwrapped pipe is `.rec` files, one after another.
    """
    return PictureStream(lambda: _attributes(channel) if channel.wrapped else _records(channel))


def _records(channel: Channel) -> Iterator[Picture]:
    for source in channel.sources():
        with source.open() as stream:
            yield from _of_records(stream, source.name)


def _of_records(stream: BinaryIO, name: str) -> Iterator[Picture]:
    for number, payload in enumerate(payloads(stream, name), 1):
        where = f"{name}, record {number}"
        label, _, data = unpacked(payload, where)
        yield Picture(where, data, label)


def _attributes(channel: Channel) -> Iterator[Picture]:
    """Frames by twos; a frame that is a `.rec` file gives its records."""
    number, picture = 0, b""
    for source in channel.sources():
        with source.open() as stream:
            content = stream.read()
        if content[:4] == MAGIC_BYTES:
            yield from _of_records(io.BytesIO(content), source.name)
            continue
        number += 1
        if number % 2:
            picture = content
            continue
        yield Picture(f"channel {channel.name!r}, picture {number // 2}", picture, content)
    if number % 2:
        raise DataError(
            f"channel {channel.name!r}: {number} attributes came, which are no pairs of picture and label; "
            "AttributeNames needs two, the picture's first"
        )


def shuffled(
    stream: Iterator[tuple[int, Picture]],
    random: np.random.Generator,
    pictures: int = HELD_PICTURES,
    held_bytes: int = HELD_BYTES,
) -> Iterator[tuple[int, Picture]]:
    """The stream in another order: each is drawn from a buffer of at most `pictures` and `held_bytes`."""
    buffer: list[tuple[int, Picture]] = []
    held = 0
    for one in stream:
        buffer.append(one)
        held += len(one[1].data)
        while len(buffer) > pictures or (held > held_bytes and len(buffer) > 1):
            drawn = _drawn(buffer, random)
            held -= len(drawn[1].data)
            yield drawn
    while buffer:
        yield _drawn(buffer, random)


def _drawn(buffer: list[tuple[int, Picture]], random: np.random.Generator) -> tuple[int, Picture]:
    at = int(random.integers(len(buffer)))
    buffer[at], buffer[-1] = buffer[-1], buffer[at]
    return buffer.pop()
