"""Lines: text in pieces that end where a line ends, with their line numbers; for CSV, libsvm and JSON Lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from sagesmith.formats.errors import DataError
from sagesmith.formats.source import Source

PIECE_BYTES = 4 << 20
LONGEST_LINE = 256 << 20
LF, CR = 10, 13
COUNTED = 64 << 10  # bytes compared at once, few enough to stay in the cache
BOM = b"\xef\xbb\xbf"


def pieces(source: Source, charset: str = "utf-8", size: int = PIECE_BYTES) -> Iterator[tuple[bytes, int, int]]:
    """Whole lines of about `size` bytes in UTF-8, the number of their first line, counted from 1, and how many end.

    Lines end in LF, CR LF, or CR where a file knows no LF. A byte order mark is dropped.

    Raises:
        DataError: a line longer than 256 MB, an unknown charset, or bytes that are not of it.
    """
    with source.open() as stream:
        line = 1
        held: list[bytes] = []  # of a line that has not ended yet; joined once, or long lines would cost their square
        for block in _in_utf8(stream, source.name, charset, size):
            text, held = _parted(held, block)
            if not text:
                if sum(map(len, held)) > LONGEST_LINE:
                    raise DataError(f"{source.name}, line {line}: longer than {LONGEST_LINE} bytes")
                continue
            lines = _lines(text)
            yield text, line, lines
            line += lines
        if rest := b"".join(held):
            yield rest, line, _lines(rest)


def _parted(held: list[bytes], block: bytes) -> tuple[bytes, list[bytes]]:
    """What is held and a block behind it: the lines that end, and what is held from now on."""
    if end := block.rfind(b"\n") + 1:
        return b"".join([*held, memoryview(block)[:end]]), [block[end:]]
    if b"\r" not in block and not (held and held[-1].endswith(b"\r")):
        return b"", [*held, block]
    text = b"".join([*held, block])
    end = text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, len(text) - 1) + 1  # a CR that no LF can follow any more
    return text[:end], [text[end:]]


def _in_utf8(stream: BinaryIO, name: str, charset: str, size: int) -> Iterator[bytes]:
    try:
        codec = codecs.lookup(charset)
    except (LookupError, ValueError) as error:
        raise DataError(f"{name}: unknown charset {charset!r}") from error
    decoder = None if codec.name in ("utf-8", "ascii") else codec.incrementaldecoder()
    first = True
    while block := stream.read(size):
        if decoder is not None:
            block = _transcoded(decoder, block, name, charset)
        yield block.removeprefix(BOM) if first else block
        first = False
    if decoder is not None:
        yield _transcoded(decoder, b"", name, charset)


def _transcoded(decoder: codecs.IncrementalDecoder, block: bytes, name: str, charset: str) -> bytes:
    """UTF-8 of a block; of the last one, which is empty, an error where a character is cut off."""
    try:
        return decoder.decode(block, final=not block).encode()
    except ValueError as error:
        raise DataError(f"{name}: not {charset}: {error}") from error


def count(text: bytes, byte: int) -> int:
    """How many bytes of a text are `byte`; in 3.11 `bytes.count` takes as long for it as reading the numbers does."""
    found = np.frombuffer(text, np.uint8)
    return sum(int(np.count_nonzero(found[at : at + COUNTED] == byte)) for at in range(0, len(found), COUNTED))


def _lines(text: bytes) -> int:
    return count(text, LF) or count(text, CR)
