"""Model: what was learnt, asked for vectors of words or for labels of texts. All that fastText's files hold works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sagesmith.algorithms.blazingtext import binary, supervised_compiled, words_compiled
from sagesmith.algorithms.blazingtext.binary import Arguments, Binary, Rows
from sagesmith.algorithms.blazingtext.dictionary import Dictionary, side_by_side
from sagesmith.algorithms.blazingtext.words_compiled import Grams

TEXTS = 4096  # that are judged at once
SCORES = 1 << 24  # numbers that are held at once


class Found(NamedTuple):
    """The likeliest labels of texts: (n, k) numbers of labels, likeliest first, and their probabilities."""

    labels: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Model(Binary):
    """A model file's content, and answers from it."""

    @classmethod
    def read(cls, path: Path) -> Model:
        """From a model file.

        Raises:
            ValueError: it cannot be read.
        """
        found = binary.read(path)
        return cls(found.arguments, found.dictionary, found.inputs, found.outputs)

    @property
    def is_classifier(self) -> bool:
        return self.arguments.model == binary.SUPERVISED

    @cached_property
    def grams(self) -> Grams:
        return self.arguments.grams(self.dictionary.words)

    @cached_property
    def labels(self) -> list[str]:
        """The names of the labels, `__label__` included."""
        return self.dictionary.names(self.dictionary.words)

    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """(n, dim) float32: the mean of a word's rows; of an unknown word's n-grams, or 0 where there are none."""
        own, letters, starts = self.dictionary.find(words)
        ends = np.empty(len(words) + 1, np.int64)
        arguments = (letters, starts, own, self.grams, ends)
        rows = np.empty(words_compiled.subwords(*arguments, np.empty(0, np.int64)), np.int64)
        words_compiled.subwords(*arguments, rows)
        return self._means(ends, rows)

    def all_vectors(self) -> np.ndarray:
        """The vectors of all words of the dictionary, (words, dim)."""
        if self.grams.most <= 0:
            return np.ascontiguousarray(self.inputs.values[: self.dictionary.words, : self.arguments.dim])
        return self.vectors(self.dictionary.names(0, self.dictionary.words))

    def _means(self, ends: np.ndarray, rows: np.ndarray) -> np.ndarray:
        found = np.zeros((len(ends) - 1, self.arguments.dim), np.float32)
        values = self.inputs.values[:, : self.arguments.dim]
        supervised_compiled.means(values, ends, self.inputs.places(rows), found)
        return found

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, labels) float32: of texts without a known word or n-gram, 0."""
        ends, rows = self.dictionary.rows_of_texts(texts, self.grams)
        hidden = self._means(ends, rows)
        scores = hidden @ self._outputs.T
        loss = self.arguments.loss
        if loss == binary.SOFTMAX:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        elif loss == binary.HS:
            scores = self._tree.leaves(scores)
        else:
            scores = 1 / (1 + np.exp(-scores))
        return np.where((np.diff(ends) > 0)[:, None], scores, np.float32(0)).astype(np.float32)

    @cached_property
    def _outputs(self) -> np.ndarray:
        labels = self.dictionary.labels
        return np.ascontiguousarray(self.outputs.values[:labels, : self.arguments.dim])

    @cached_property
    def _tree(self) -> Tree:
        return Tree.of(self.dictionary.counts[self.dictionary.words :])

    def best(self, texts: Sequence[str], k: int) -> Found:
        """The k likeliest labels of texts, or all there are."""
        count = self.dictionary.labels
        k = min(k, count)
        step = max(1, min(TEXTS, SCORES // max(1, count)))
        labels, chances = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
        for begin in range(0, len(texts), step):
            found = self.probabilities(texts[begin : begin + step])
            nearest = np.argpartition(-found, k - 1, axis=1)[:, :k] if k < count else np.arange(count)[None, :]
            values = np.take_along_axis(found, np.broadcast_to(nearest, (len(found), k)), 1)
            order = np.argsort(-values, axis=1, kind="stable")
            labels.append(np.take_along_axis(np.broadcast_to(nearest, values.shape), order, 1))
            chances.append(np.take_along_axis(values, order, 1))
        return Found(np.concatenate(labels), np.concatenate(chances))


@dataclass(frozen=True)
class Tree:
    """fastText's Huffman tree over labels in the order of falling counts (its loss `hs`), path by path."""

    ends: np.ndarray  # (labels + 1,) int64
    nodes: np.ndarray  # rows of the output matrix, from the leaf up
    right: np.ndarray  # bool: the path goes to the node's second child

    @classmethod
    def of(cls, counts: np.ndarray) -> Tree:
        labels = len(counts)
        weights = [*counts.tolist(), *[1 << 60] * (labels - 1)]
        parent, second = [-1] * (2 * labels - 1), [False] * (2 * labels - 1)
        leaf, node = labels - 1, labels
        for new in range(labels, 2 * labels - 1):
            pair = []
            for _ in range(2):
                if leaf >= 0 and weights[leaf] < weights[node]:
                    pair.append(leaf)
                    leaf -= 1
                else:
                    pair.append(node)
                    node += 1
            weights[new] = weights[pair[0]] + weights[pair[1]]
            parent[pair[0]] = parent[pair[1]] = new
            second[pair[1]] = True
        ends, nodes, right = [0], [], []
        for label in range(labels):
            at = label
            while parent[at] != -1:
                nodes.append(parent[at] - labels)
                right.append(second[at])
                at = parent[at]
            ends.append(len(nodes))
        return cls(np.array(ends), np.array(nodes, np.int64), np.array(right, np.bool_))

    def leaves(self, scores: np.ndarray) -> np.ndarray:
        """(n, labels) probabilities, from the scores of the nodes."""
        signed = (
            np.where(self.right, scores[:, self.nodes], -scores[:, self.nodes]) if len(self.nodes) else scores[:, :0]
        )
        logs = -np.logaddexp(np.float32(0), -signed)
        sums = np.concatenate([np.zeros((len(scores), 1)), np.cumsum(logs, axis=1, dtype=np.float64)], axis=1)
        return np.asarray(np.exp(sums[:, self.ends[1:]] - sums[:, self.ends[:-1]]))


def of_text(path: Path) -> Model:
    """Word vectors in word2vec's text form: a line of count and dimensions, then each word with its numbers.

    Raises:
        ValueError: it cannot be read, naming the line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
        count, dim = (int(number) for number in lines[0].split())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no word vectors: {error}") from None
    if len(lines) < count + 1 or min(count, dim) < 1:
        raise ValueError(f"{path} has {len(lines) - 1} lines of word vectors, its head says {count} of {dim} numbers")
    words, values = [], np.empty((count, dim), np.float32)
    for row in range(count):
        word, *numbers = lines[row + 1].rstrip().split(b" ")
        if len(numbers) != dim:
            raise ValueError(f"{path}, line {row + 2}: {len(numbers)} numbers, {dim} are needed")
        try:
            values[row] = np.array(numbers, np.float32)
        except ValueError as error:
            raise ValueError(f"{path}, line {row + 2}: {error}") from None
        words.append(word.decode("utf-8", "surrogateescape"))
    letters, starts = side_by_side(words)
    dictionary = Dictionary.of(letters, starts, np.ones(count, np.int64), count, count)
    arguments = Arguments(dim, 5, 1, 1, 5, 1, binary.NS, binary.SKIPGRAM, 0, 0, 0, 100, 1e-4)
    return Model(arguments, dictionary, Rows(count, dim, values), Rows(count, dim, np.zeros((count, dim), np.float32)))


def write_text(path: Path, words: Sequence[str], vectors: np.ndarray) -> None:
    """Word vectors in word2vec's text form; every number reads back as it was."""
    form = "%s" + " %.9g" * vectors.shape[1] + "\n"
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, row in zip(words, vectors, strict=True):
            file.write(form % (word, *row.tolist()))
