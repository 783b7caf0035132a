"""Vocabulary and Dictionary: the words of a text while it is read, and those of a model.

A vocabulary takes text block by block and numbers words as they come. What is frequent enough becomes a dictionary, as
fastText has it: words, then labels, each with the most frequent first; "</s>" is the word at the end of every line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sagesmith.algorithms.blazingtext import words_compiled as machine
from sagesmith.algorithms.blazingtext.words_compiled import Grams, Lexicon
from sagesmith.formats.errors import DataError

END_OF_LINE = "</s>"
PREFIX = "__label__"
ROOM = 1 << 12  # words that an empty lexicon has room for


def lexicon_for(words: int, letters: int) -> Lexicon:
    """An empty lexicon with room for so many words of so many bytes together."""
    slots = 1 << max(4, (2 * words + 2).bit_length())
    return Lexicon(
        np.zeros(slots, np.int32),
        np.zeros(words, np.uint32),
        np.zeros(words + 1, np.int64),
        np.zeros(words, np.int64),
        np.zeros(words, np.bool_),
        np.zeros(letters, np.uint8),
        np.zeros(1, np.int64),
    )


class Vocabulary:
    """All words that were read, in the order of their coming; the first is "</s>"."""

    def __init__(self) -> None:
        self.lexicon = lexicon_for(ROOM, 16 * ROOM)
        machine.enter(self.lexicon, machine.END, np.array([0, len(machine.END)]))
        self._line = np.array([1, 0, 0, 0])

    def begin(self) -> None:
        """A new file begins: lines are counted from 1 again."""
        self._line[:] = (1, 0, 0, 0)

    def read(self, block: bytes, learn: bool = True) -> np.ndarray:
        """Entries of the words of a block, int32, with -1 where a line ends; words must not go on in the next block.

        Args:
            learn: count the words.
        """
        text, at, parts = np.frombuffer(block, np.uint8), 0, []
        while at < len(text):
            words = np.empty(len(text) - at + 1, np.int32)
            at, count = machine.read(text, at, self.lexicon, learn, self._line, words)
            parts.append(words[:count].copy())
            if at < len(text):
                self._grow(len(text))
        return np.concatenate([*parts, np.empty(0, np.int32)]) if len(parts) != 1 else parts[0]

    @property
    def unlabelled(self) -> int:
        """The number of the first line of this file that has words and no label; 0: there is none."""
        return int(self._line[machine.UNLABELLED])

    @property
    def line(self) -> int:
        """The number of the line that the next block begins in."""
        return int(self._line[machine.NUMBER])

    def _grow(self, letters: int) -> None:
        old = self.lexicon
        count = int(old.size[0])
        new = lexicon_for(2 * len(old.hashes), 2 * len(old.letters) + letters)
        for name in ("hashes", "counts", "labels"):
            getattr(new, name)[:count] = getattr(old, name)[:count]
        new.starts[: count + 1] = old.starts[: count + 1]
        new.letters[: old.starts[count]] = old.letters[: old.starts[count]]
        new.size[0] = count
        machine.slotted(new.hashes, count, new.slots)
        self.lexicon = new

    def dictionary(self, min_count: int, with_line_end: bool) -> tuple[Dictionary, np.ndarray]:
        """The words seen `min_count` times or more, and all labels; and for each entry its number among them, or -1.

        Numbers of labels begin again at 0. Words of equal frequency stay in the order of their coming.
        """
        lexicon = self.lexicon
        size = int(lexicon.size[0])
        counts, labels = lexicon.counts[:size], lexicon.labels[:size]
        known = (counts > 0) & (labels | (counts >= min_count))
        known[machine.END_OF_LINE] &= with_line_end
        final = np.full(size, -1, np.int64)
        chosen = []
        for kind in (False, True):
            own = np.flatnonzero(known & (labels == kind))
            own = own[np.argsort(-counts[own], kind="stable")]
            final[own] = np.arange(len(own))
            chosen.append(own)
        entries = np.concatenate(chosen)
        letters = np.empty(int(np.diff(lexicon.starts[: size + 1])[entries].sum()), np.uint8)
        starts = np.empty(len(entries) + 1, np.int64)
        machine.picked(lexicon, entries, letters, starts)
        total = int(counts.sum()) - (0 if with_line_end else int(counts[machine.END_OF_LINE]))
        return Dictionary.of(letters, starts, counts[entries], len(chosen[0]), total), final


@dataclass
class Dictionary:
    """The words and labels of a model: `words` words, then labels, in a lexicon."""

    lexicon: Lexicon
    words: int
    tokens: int  # of the training text: words, too rare ones included, and labels

    @classmethod
    def of(cls, letters: np.ndarray, starts: np.ndarray, counts: np.ndarray, words: int, tokens: int) -> Dictionary:
        """From names side by side, words first.

        Raises:
            ValueError: a name that comes twice.
        """
        lexicon = lexicon_for(len(starts) - 1 or 1, len(letters))
        twice = machine.enter(lexicon, letters, starts)
        if twice >= 0:
            name = letters[starts[twice] : starts[twice + 1]].tobytes().decode("utf-8", "replace")
            raise ValueError(f"the word {name!r} comes twice")
        lexicon.counts[: len(counts)] = counts
        return cls(lexicon, words, tokens)

    def __len__(self) -> int:
        return int(self.lexicon.size[0])

    @property
    def labels(self) -> int:
        """The number of labels."""
        return len(self) - self.words

    @property
    def counts(self) -> np.ndarray:
        """How often each word and label occurred, (words + labels,) int64."""
        return self.lexicon.counts[: len(self)]

    def names(self, begin: int = 0, end: int | None = None) -> list[str]:
        """The names of words and labels; bytes that are not UTF-8 as `\\udcxx`."""
        starts = self.lexicon.starts[begin : (len(self) if end is None else end) + 1].tolist()
        text = self.lexicon.letters.tobytes() if len(starts) > 1 else b""
        return [text[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(starts)]

    def find(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, letters, starts) of words: the row of each, -1 where there is none, and their bytes side by side."""
        letters, starts = side_by_side(words)
        entries = np.empty(len(words), np.int64)
        machine.find(self.lexicon, letters, starts, entries)
        return np.where(entries < self.words, entries, -1), letters, starts

    def own(self) -> np.ndarray:
        """The row of each entry, -1 for labels."""
        rows = np.arange(len(self))
        rows[self.words :] = -1
        return rows

    def rows_of_texts(self, texts: Sequence[str], grams: Grams) -> tuple[np.ndarray, np.ndarray]:
        """(ends, rows) of texts as fastText predicts from them: words, n-grams, the end of the line."""
        block = b"".join(one_line(text) for text in texts)
        text, ends = np.frombuffer(block, np.uint8), np.empty(len(texts) + 1, np.int64)
        arguments = (text, self.lexicon, self.own(), grams, ends)
        _, count = machine.texts_of(*arguments, np.empty(0, np.int64))
        rows = np.empty(count, np.int64)
        machine.texts_of(*arguments, rows)
        return ends, rows


def side_by_side(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of words side by side, and where each begins, (n + 1,)."""
    encoded = [word.encode("utf-8", "surrogateescape") for word in words]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), starts


def one_line(text: str) -> bytes:
    """A text as one line of UTF-8, its own line ends as spaces."""
    return text.encode("utf-8", "surrogateescape").replace(b"\n", b" ") + b"\n"


def label_of(value: object, place: str) -> str:
    """`__label__` and a label: a whole number or a text without white space.

    Raises:
        DataError: something else.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, np.integer)):
        raise DataError(f"{place}: the label {value!r:.80} is neither a whole number nor text")
    text = str(value)
    if not text or len(text.split()) != 1 or text != text.strip() or "\0" in text:
        raise DataError(f"{place}: the label {text!r:.80} is empty or holds white space")
    return text if text.startswith(PREFIX) else PREFIX + text
