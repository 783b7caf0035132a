"""libsvm: sparse rows as text, `label[:weight] [qid:n] index:value …`, with `#` comments.

Two readers give the same rows: `read_lines` in plain Python words the errors, compiled code reads larger pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import numpy as np

from sagesmith.formats.ahead import in_order, processors
from sagesmith.formats.batch import Batch, csr
from sagesmith.formats.compiled import worthwhile
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Format, Options
from sagesmith.formats.lines import CR, count, pieces
from sagesmith.formats.numbers import float32, number, shown
from sagesmith.formats.source import Source

LARGEST_INDEX = 2**31 - 2
PIECE_BYTES = 1 << 20
COLON = 58


class Libsvm(Format):
    """`text/libsvm`. Batches are CSR, as wide as the largest index so far, unless the options name a width.

    With `label_size` 0 (requests) a first token without a colon is taken for a label and dropped.
    """

    content_types = ("text/libsvm", "text/x-libsvm", "libsvm", "application/x-libsvm")
    ragged = True

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        first, widest = options.first_index, 0
        for rows, where in _rows(source, options):
            if not len(rows):
                continue
            matrix: Any = rows.features
            if first is None and matrix.nnz:
                first = min(1, int(matrix.indices.min()))
            widest = max(widest, rows.width - (first or 0))
            yield _shifted(rows, first or 0, options.width, widest, where)


def _rows(source: Source, options: Options) -> Iterator[tuple[Batch, str]]:
    """The rows of each piece of text with columns as numbered there, and its place."""
    labelled = options.label_size > 0

    def read(piece: tuple[bytes, int, int]) -> tuple[Batch, str]:
        text, line, lines = piece
        rows = _compiled(text, lines) if compile_it else None
        if rows is None:
            rows = read_lines(text, labelled, source.name, line)
        return rows, f"{source.name}, lines from {line}"

    expected = source.size() or 0
    compile_it = False
    given = pieces(source, options.charset, PIECE_BYTES)
    for piece in given:
        compile_it = options.label_size == 1 and worthwhile(max(expected, len(piece[0])))
        if compile_it:  # from here on; a request has a thread of its own already
            threads = processors() if source.body is None else 1
            yield from in_order(read, chain([piece], given), threads)
        else:
            yield read(piece)


def read_lines(text: bytes, labelled: bool, name: str = "", first_line: int = 1) -> Batch:
    """The reference reader; columns are numbered as in the text.

    Raises:
        DataError: naming the line and the token.
    """
    labels: list[float] = []
    weights: list[float | None] = []
    groups: list[int | None] = []
    keys: list[int] = []
    values: list[float] = []
    starts = [0]
    for offset, line in enumerate(text.splitlines()):
        tokens = line.partition(b"#")[0].split()
        if not tokens:
            continue
        where = f"{name}, line {first_line + offset}"
        label, weight = _label(tokens, labelled, where)
        groups.append(_group(tokens, where))
        row = [_pair(token, where) for token in tokens]
        if any(one[0] >= two[0] for one, two in pairwise(row)):
            row = _sorted(row, where)
        labels.append(label)
        weights.append(weight)
        keys += [key for key, _ in row]
        values += [value for _, value in row]
        starts.append(len(keys))
    features = csr(float32(values), np.array(keys, np.int32), np.array(starts, np.int32), max(keys, default=-1) + 1)
    return Batch(
        features,
        float32(labels) if labelled else None,
        _weights(weights),
        _groups(groups, f"{name}, lines from {first_line}"),
    )


def _label(tokens: list[bytes], labelled: bool, where: str) -> tuple[float, float | None]:
    """Takes the label off the tokens; without `labelled`, only where it cannot be a feature."""
    if not labelled:
        if b":" not in tokens[0]:
            _number(tokens.pop(0), "label", where)
        return 0.0, None
    label, colon, weight = tokens.pop(0).partition(b":")
    return _number(label, "label", where), _number(weight, "weight", where) if colon else None


def _group(tokens: list[bytes], where: str) -> int | None:
    if not tokens or not tokens[0].startswith(b"qid:"):
        return None
    text = tokens.pop(0)[4:]
    if not text.isdigit() or len(text) > 18:
        raise DataError(f"{where}: qid {shown(text)} is not a whole number of 0 or more")
    return int(text)


def _pair(token: bytes, where: str) -> tuple[int, float]:
    key, colon, value = token.partition(b":")
    if not colon or not key.isdigit() or len(key) > 18:
        raise DataError(f"{where}: {shown(token)} is not of the form index:value")
    index = int(key)
    if index > LARGEST_INDEX:
        raise DataError(f"{where}: index {index} is over {LARGEST_INDEX}")
    return index, _number(value, f"value of index {index}", where)


def _number(text: bytes, what: str, where: str) -> float:
    if text:
        try:
            return number(text)
        except ValueError:
            pass
    raise DataError(f"{where}: {what} {shown(text)} is not a number")


def _sorted(row: list[tuple[int, float]], where: str) -> list[tuple[int, float]]:
    row = sorted(row, key=lambda pair: pair[0])
    for (one, _), (two, _) in pairwise(row):
        if one == two:
            raise DataError(f"{where}: index {one} stands twice")
    return row


def _weights(weights: list[float | None]) -> np.ndarray | None:
    if all(weight is None for weight in weights):
        return None
    return float32([1.0 if weight is None else weight for weight in weights])


def _groups(groups: list[int | None], where: str) -> np.ndarray | None:
    given = [group for group in groups if group is not None]
    if given and len(given) < len(groups):
        raise DataError(f"{where}: some rows have a qid and others have none")
    return np.array(given, np.int64) if given else None


def _compiled(text: bytes, lines: int) -> Batch | None:
    """The same as `read_lines` for labelled rows in so many lines, or None where that one must see to it."""
    if b"qid:" in text or b"#" in text:
        return None
    from sagesmith.formats.libsvm_compiled import FINE, parse

    text = text if text.endswith(b"\n") else text + b"\n"
    rows = lines + 1 + (count(text, CR) if b"\r" in text else 0)  # at most
    most = count(text, COLON)
    labels, starts = np.empty(rows, np.float32), np.zeros(rows + 1, np.int32)
    keys, values = np.empty(most, np.int32), np.empty(most, np.float32)
    hard = np.empty((most // 4 + 64, 3), np.int64)
    status, filled, found, hards = parse(np.frombuffer(text, np.uint8), labels, starts, keys, values, hard)
    if status != FINE:
        return None
    try:
        for position, start, stop in hard[:hards].tolist():
            values[position] = float32([_number(text[start:stop], "value", "")])[0]
    except DataError:
        return None
    width = int(keys[:found].max()) + 1 if found else 0
    return Batch(csr(values[:found], keys[:found], starts[: filled + 1], width), labels[:filled])


def _shifted(rows: Batch, first: int, width: int | None, widest: int, where: str) -> Batch:
    """The rows with columns counted from 0, in a matrix of `width` (or of the widest so far)."""
    matrix: Any = rows.features
    if first and len(matrix.indices) and matrix.indices.min() < first:
        raise DataError(f"{where}: index 0, but indices were said to begin at {first}")
    if width is not None and widest > width:
        raise DataError(f"{where}: index {widest - 1 + first} is beyond the {width} columns expected")
    columns = max(1, widest) if width is None else width
    return replace(rows, features=csr(matrix.data, matrix.indices - np.int32(first), matrix.indptr, columns))
