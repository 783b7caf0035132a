"""Lines: text in pieces that end where a line ends, with their line numbers; for CSV, libsvm and JSON Lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from sagesmith.formats.errors import DataError
from sagesmith.formats.source import Source

PIECE_BYTES = 4 << 20
LONGEST_LINE = 256 << 20
BOM = b"\xef\xbb\xbf"


def pieces(source: Source, charset: str = "utf-8", size: int = PIECE_BYTES) -> Iterator[tuple[bytes, int]]:
    """Whole lines of about `size` bytes in UTF-8, with the number of their first line, counted from 1.

    Lines end in LF, CR LF, or CR where a file knows no LF. A byte order mark is dropped.

    Raises:
        DataError: a line longer than 256 MB, an unknown charset, or bytes that are not of it.
    """
    with source.open() as stream:
        line, rest = 1, b""
        for block in _in_utf8(stream, source.name, charset, size):
            text = rest + block if rest else block
            end = _end_of_lines(text)
            if end == 0 and len(text) > LONGEST_LINE:
                raise DataError(f"{source.name}, line {line}: longer than {LONGEST_LINE} bytes")
            rest = text[end:]
            if end:
                yield text[:end], line
                line += _count(text[:end])
        if rest:
            yield rest, line


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


def _end_of_lines(text: bytes) -> int:
    """Where the last whole line ends: after the last LF, or the last CR that no LF can follow any more."""
    end = text.rfind(b"\n") + 1
    return end or text.rfind(b"\r", 0, len(text) - 1) + 1


def _count(text: bytes) -> int:
    return text.count(b"\n") or text.count(b"\r")
