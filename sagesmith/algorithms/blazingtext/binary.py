"""binary: fastText's model files, read and written byte for byte (version 12; 11 is read).

    int32 magic, version
    int32 dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate; float64 t
    int32 size, nwords, nlabels; int64 ntokens, pruneidx_size; each entry: bytes, NUL, int64 count, int8 type
    bool quantised; int64 rows, cols, float32 values   (inputs: nwords + bucket rows)
    bool quantised; int64 rows, cols, float32 values   (outputs: a row a word or label)

All little-endian. Files are mapped, not read: a model of gigabytes is there at once, and rows are fetched when asked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sagesmith.algorithms.blazingtext.binary_compiled import entries, letters_of
from sagesmith.algorithms.blazingtext.dictionary import Dictionary
from sagesmith.algorithms.blazingtext.words_compiled import Grams

MAGIC, VERSION = 793712314, 12
HS, NS, SOFTMAX, OVA = 1, 2, 3, 4  # losses
CBOW, SKIPGRAM, SUPERVISED = 1, 2, 3  # models
WORD, LABEL = 0, 1
_ARGUMENTS = struct.Struct("<12id")
_SIZES = struct.Struct("<3i2q")
_SHAPE = struct.Struct("<?2q")
_COUNT = struct.Struct("<qb")


@dataclass(frozen=True)
class Arguments:
    """What fastText was asked for; its names, in the order of the file."""

    dim: int
    ws: int
    epoch: int
    minCount: int
    neg: int
    wordNgrams: int
    loss: int
    model: int
    bucket: int
    minn: int
    maxn: int
    lrUpdateRate: int
    t: float

    def grams(self, words: int) -> Grams:
        """The n-grams of a model with so many words."""
        return Grams(words, self.bucket, self.minn, self.maxn, max(1, self.wordNgrams))


@dataclass(frozen=True)
class Rows:
    """A matrix of `count` rows of which some may be 0 and not kept: `values` (n, >= width) are the rows `kept`."""

    count: int
    width: int
    values: np.ndarray
    kept: np.ndarray | None = None  # (n,) int64, ascending; None: all

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where rows are in `values`; -1 for those that are 0."""
        if self.kept is None:
            return rows
        if not len(self.kept):
            return np.full(rows.shape, -1)
        found = np.minimum(np.searchsorted(self.kept, rows), len(self.kept) - 1)
        return np.where(self.kept[found] == rows, found, -1)

    def write(self, file: BinaryIO) -> None:
        """The matrix as fastText has it; what is not kept becomes a hole in the file."""
        file.write(_SHAPE.pack(False, self.count, self.width))
        begin = file.tell()
        for first, last, row in self._runs():
            file.seek(begin + 4 * self.width * row)
            file.write(np.ascontiguousarray(self.values[first:last, : self.width], "<f4").tobytes())
        file.seek(begin + 4 * self.width * self.count)
        file.truncate()

    def _runs(self, most: int = 1 << 16) -> list[tuple[int, int, int]]:
        """(first, last, row): values[first:last] are rows that follow each other from `row` on; never too many."""
        kept = np.arange(self.count) if self.kept is None else self.kept
        if not len(kept):
            return []
        cuts = np.flatnonzero(np.diff(kept) != 1) + 1
        cuts = np.union1d(cuts, np.arange(most, len(kept), most)).tolist()
        return [(a, b, int(kept[a])) for a, b in zip([0, *cuts], [*cuts, len(kept)], strict=True)]


@dataclass(frozen=True)
class Binary:
    """A model file."""

    arguments: Arguments
    dictionary: Dictionary
    inputs: Rows
    outputs: Rows


def write(path: Path, model: Binary) -> None:
    """Writes a model file."""
    dictionary = model.dictionary
    with path.open("wb") as file:
        file.write(struct.pack("<2i", MAGIC, VERSION))
        file.write(_ARGUMENTS.pack(*(getattr(model.arguments, field.name) for field in fields(Arguments))))
        file.write(_SIZES.pack(len(dictionary), dictionary.words, dictionary.labels, dictionary.tokens, -1))
        counts, starts = dictionary.counts.tolist(), dictionary.lexicon.starts.tolist()
        text = dictionary.lexicon.letters.tobytes()
        for entry, count in enumerate(counts):
            kind = LABEL if entry >= dictionary.words else WORD
            file.write(text[starts[entry] : starts[entry + 1]] + b"\0" + _COUNT.pack(count, kind))
        model.inputs.write(file)
        model.outputs.write(file)


def read(path: Path) -> Binary:
    """A model file, mapped into memory.

    Raises:
        ValueError: no such file, or none that can be used, saying why.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        return _parsed(data)
    except (OSError, struct.error, ValueError, IndexError) as error:
        raise ValueError(f"{path} is no fastText model: {error}") from None


def _parsed(data: Any) -> Binary:
    at = 8
    magic, version = struct.unpack_from("<2i", data, 0)
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic}, not {MAGIC}")
    if version not in (11, VERSION):
        raise ValueError(f"its version is {version}; 11 and {VERSION} can be read")
    arguments = Arguments(*_ARGUMENTS.unpack_from(data, at))
    if version == 11 and arguments.model == SUPERVISED:  # fastText of that time ignored what it had written
        arguments = replace(arguments, maxn=0)
    _check(arguments)
    dictionary, at = _dictionary(data, at + _ARGUMENTS.size)
    inputs, at = _matrix(data, at, arguments.dim)
    outputs, _ = _matrix(data, at, arguments.dim)
    needed = dictionary.words + (arguments.bucket if arguments.maxn > 0 or arguments.wordNgrams > 1 else 0)
    if inputs.count < needed:
        raise ValueError(f"its input matrix has {inputs.count} rows, {needed} are needed")
    if outputs.count < (dictionary.labels if arguments.model == SUPERVISED else dictionary.words):
        raise ValueError(f"its output matrix has {outputs.count} rows, too few")
    return Binary(arguments, dictionary, inputs, outputs)


def _check(arguments: Arguments) -> None:
    if arguments.dim < 1 or arguments.model not in (CBOW, SKIPGRAM, SUPERVISED):
        raise ValueError(f"dim {arguments.dim} and model {arguments.model} make no sense")
    if arguments.loss not in (HS, NS, SOFTMAX, OVA):
        raise ValueError(f"its loss {arguments.loss} is not known")
    if arguments.bucket < 1 and (arguments.maxn > 0 or arguments.wordNgrams > 1):
        raise ValueError(f"it has n-grams, but {arguments.bucket} buckets")


def _dictionary(data: Any, at: int) -> tuple[Dictionary, int]:
    size, words, labels, tokens, pruned = _SIZES.unpack_from(data, at)
    at += _SIZES.size
    if pruned >= 0:
        raise ValueError("it is quantised with a cut-off, which cannot be read; use the .bin file")
    if size != words + labels or min(words, labels) < 0:
        raise ValueError(f"{size} entries, but {words} words and {labels} labels")
    starts, counts = np.zeros(size + 1, np.int64), np.zeros(size, np.int64)
    kinds = np.zeros(size, np.int8)
    end = entries(data, at, starts, counts, kinds)
    if end < 0:
        raise ValueError("it ends within the dictionary")
    if (kinds[:words] != WORD).any() or (kinds[words:] != LABEL).any():
        raise ValueError("its dictionary is not words, then labels")
    letters = np.empty(starts[-1], np.uint8)
    letters_of(data, at, starts, letters)
    dictionary = Dictionary.of(letters, starts, counts, words, tokens)
    return dictionary, end


def _matrix(data: Any, at: int, width: int) -> tuple[Rows, int]:
    quantised, rows, columns = _SHAPE.unpack_from(data, at)
    if quantised:
        raise ValueError("it is quantised, which cannot be read; use the .bin file")
    at += _SHAPE.size
    end = at + 4 * rows * columns
    if columns != width or rows < 0 or end > len(data):
        raise ValueError(
            f"a matrix of {rows} x {columns} numbers does not fit: dim is {width}, {len(data) - at} bytes are left"
        )
    # The dictionary before it is of any length, so that the numbers need not be at multiples of four.
    values = np.frombuffer(data, "<f4", rows * columns, at).reshape(rows, columns)
    return Rows(rows, columns, values), end
