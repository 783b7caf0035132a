"""CSV: numbers in rows without a header, labels first, as SageMaker's algorithms read it.

Two readers give the same rows. `read_lines` is plain Python: it starts at once and words the errors. For larger pieces
compiled code fills the matrix row by row, and hands back what it does not know.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from sagesmith.formats.ahead import in_order, processors
from sagesmith.formats.batch import Batch
from sagesmith.formats.compiled import worthwhile
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Format, Options
from sagesmith.formats.lines import CR, count, pieces
from sagesmith.formats.numbers import float32, number, shown
from sagesmith.formats.source import Source

DELIMITERS = ",\t;| :"
PIECE_BYTES = 256 << 10  # text, its cells and their copies stay in a processor's own cache, and memory is used again


class Csv(Format):
    """`text/csv`. An empty cell is a missing value (NaN); blank lines are passed over."""

    content_types = ("text/csv", "csv", "application/csv", "application/x-csv")

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        tasks = _pieces(source, options)
        for piece in tasks:
            if piece.compile_it:  # from here on; a request has a thread of its own already
                threads = processors() if source.body is None else 1
                yield from filter(len, in_order(_read, chain([piece], tasks), threads))
            elif len(batch := _read(piece)):
                yield batch


@dataclass(frozen=True)
class _Piece:
    """Whole lines of a source, and how to read them."""

    text: bytes
    name: str
    line: int  # number of the first
    lines: int  # that end in it
    options: Options
    width: int  # of a row, with label and weight
    compile_it: bool


def _pieces(source: Source, options: Options) -> Iterator[_Piece]:
    leading = options.label_size + options.weighted
    width = None if options.width is None else options.width + leading
    expected = source.size() or 0
    seen = 0
    for text, line, lines in pieces(source, options.charset, PIECE_BYTES):
        if options.delimiter == "auto":
            options = replace(options, delimiter=sniff_delimiter(text))
        if width is None and (width := _first_width(text, options.delimiter)) is None:
            continue
        if width <= leading:
            raise DataError(
                f"{source.name}, line {line}: {width} column(s), but the first {leading} hold label or weight"
            )
        seen += len(text)  # of a pipe or a gzip file the size is not known before
        yield _Piece(text, source.name, line, lines, options, width, worthwhile(max(expected, seen)))


def _read(piece: _Piece) -> Batch:
    delimiter = piece.options.delimiter
    matrix = _compiled(piece.text, piece.lines, delimiter, piece.width) if piece.compile_it else None
    if matrix is None:
        matrix = read_lines(piece.text, delimiter, piece.width, piece.name, piece.line)
    return _batch(matrix, piece.options)


def read_lines(text: bytes, delimiter: str, width: int, name: str = "", first_line: int = 1) -> np.ndarray:
    """The reference reader: (rows, width) float32.

    Raises:
        DataError: naming the line and the cell or the number of columns.
    """
    separator = delimiter.encode()
    suspicious = b"_" in text
    cells: list[float] = []
    for offset, line in enumerate(text.splitlines()):
        if not line:
            continue
        parts = line.split(separator)
        if len(parts) != width:
            raise DataError(f"{name}, line {first_line + offset}: {len(parts)} columns, expected {width}")
        if not suspicious:
            try:
                cells += map(float, parts)
                continue
            except ValueError:
                del cells[len(cells) // width * width :]
        cells += _read_cells(parts, f"{name}, line {first_line + offset}")
    return float32(cells).reshape(-1, width)


def _read_cells(parts: list[bytes], where: str) -> Iterator[float]:
    for column, part in enumerate(parts):
        try:
            yield number(part)
        except ValueError:
            raise DataError(f"{where}, column {column + 1}: {shown(part)} is not a number") from None


def _compiled(text: bytes, lines: int, delimiter: str, width: int) -> np.ndarray | None:
    """The same as `read_lines` for a text in which so many lines end, or None where that one must say what is wrong."""
    from sagesmith.formats.tabular_compiled import FINE, fill

    text = text if text.endswith(b"\n") else text + b"\n"
    rows = lines + 1 + (count(text, CR) if b"\r" in text else 0)  # at most
    if width > len(text):
        return None
    matrix = np.empty((rows, width), np.float32)
    hard = np.empty((rows * width // 4 + 64, 3), np.int64)
    status, filled, hards = fill(np.frombuffer(text, np.uint8), ord(delimiter), matrix, hard)
    if status != FINE:
        return None
    flat = matrix.reshape(-1)
    try:
        for position, start, stop in hard[:hards].tolist():
            flat[position] = float32([number(text[start:stop])])[0]
    except ValueError:
        return None
    return matrix[:filled]


def _first_width(text: bytes, delimiter: str) -> int | None:
    line = text.lstrip(b"\r\n")
    end = min((at for at in (line.find(b"\n"), line.find(b"\r")) if at >= 0), default=len(line))
    return line.count(delimiter.encode(), 0, end) + 1 if line else None


def _batch(matrix: np.ndarray, options: Options) -> Batch:
    size = options.label_size
    leading = size + options.weighted
    label = None if size == 0 else matrix[:, 0].copy() if size == 1 else matrix[:, :size].copy()
    weight = matrix[:, size].copy() if options.weighted else None
    return Batch(np.ascontiguousarray(matrix[:, leading:]), label, weight)


def sniff_delimiter(sample: bytes | str, allowed: str = DELIMITERS) -> str:
    """The delimiter of CSV, from its first line: a comma where there is one, else what csv.Sniffer finds.

    Only characters of `allowed` are taken, so digits and signs never are.
    """
    text = sample if isinstance(sample, str) else sample[:65536].decode("utf-8", "replace")
    line = next((line for line in text.lstrip("\ufeff").splitlines() if line.strip()), "")[:512]
    present = [character for character in allowed if character in line]
    if "," in present or len(present) < 2:
        return "," if "," in present or not present else present[0]
    try:
        return csv.Sniffer().sniff(line, allowed).delimiter
    except csv.Error:
        return max(present, key=line.count)
