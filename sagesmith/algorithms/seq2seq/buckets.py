"""buckets: batches of pairs of like length, so that little of a batch is padding.

The buckets are Sockeye 1's: steps of `bucket_width` on the side that is longer on average, steps scaled by the ratio of
mean lengths on the other; a pair goes to the first bucket that holds both of its sides. Within a bucket, pairs of a
pass are shuffled, sorted by length in heaps of some batches, cut into batches, and the batches of all buckets shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sagesmith.algorithms.seq2seq.sentences import Pairs
from sagesmith.algorithms.seq2seq.vocabulary import END

SMALLEST = 2
HEAP = 16  # batches that are sorted together: enough to spare padding, few enough to mix


@dataclass(frozen=True)
class Padded:
    """A batch: `source` (b, s) and `target` (b, t) ids padded behind, with their lengths (b,)."""

    source: np.ndarray
    source_lengths: np.ndarray
    target: np.ndarray
    target_lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, pairs: Pairs, index: np.ndarray) -> Padded:
        return cls(*pairs.source.padded(index), *pairs.target.padded(index))

    def labels(self) -> np.ndarray:
        """What should be said at each step, (b, t + 1): the target and then `</s>`."""
        labels = np.pad(self.target, ((0, 0), (0, 1)))
        labels[np.arange(len(labels)), self.target_lengths] = END
        return labels


def buckets_of(longest_source: int, longest_target: int, width: int, ratio: float) -> list[tuple[int, int]]:
    """Buckets (source, target), rising.

    Args:
        width: `bucket_width`.
        ratio: mean length of targets over that of sources.
    """
    source_step = target_step = width
    if ratio >= 1.0:
        source_step = max(1, round(width / ratio))
    else:
        target_step = max(1, round(width * ratio))
    source, target = _steps(longest_source, source_step), _steps(longest_target, target_step)
    count = max(len(source), len(target))
    source += source[-1:] * (count - len(source))
    target += target[-1:] * (count - len(target))
    return sorted({(max(SMALLEST, s), max(SMALLEST, t)) for s, t in zip(source, target, strict=True)})


def _steps(longest: int, step: int) -> list[int]:
    steps = list(range(step, longest + step, step))
    steps[-1] = longest
    return steps


def assigned(pairs: Pairs, buckets: list[tuple[int, int]]) -> np.ndarray:
    """The number of each pair's bucket, (n,). The last bucket holds every pair: sentences were cut to its lengths."""
    sizes = np.array(buckets)
    by_source = np.searchsorted(sizes[:, 0], pairs.source.lengths)
    by_target = np.searchsorted(sizes[:, 1], pairs.target.lengths)
    return np.maximum(by_source, by_target)


def batches(pairs: Pairs, bucket: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """The batches of a pass, as numbers of pairs, in a random order; a bucket's last may be smaller."""
    made: list[np.ndarray] = []
    source, target = pairs.source.lengths, pairs.target.lengths
    for number in np.unique(bucket):
        members = random.permutation(np.flatnonzero(bucket == number))
        for at in range(0, len(members), HEAP * size):
            heap = members[at : at + HEAP * size]
            heap = heap[np.lexsort((source[heap], target[heap]))]
            made += [heap[begin : begin + size] for begin in range(0, len(heap), size)]
    return [made[k] for k in random.permutation(len(made))]


def shared(pairs: Pairs, batch: np.ndarray, parts: int) -> list[np.ndarray]:
    """A batch of `batches` in at most so many parts, none empty, so that the part with the most work has as little as
    can be: a part's work is its pairs times the tokens of its longest."""
    parts = min(parts, len(batch))
    if parts == 1:
        return [batch]
    tokens = np.maximum.accumulate(pairs.source.lengths[batch]) + np.maximum.accumulate(pairs.target.lengths[batch])
    low, high = int(tokens[-1]), len(batch) * int(tokens[-1])
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_filled(tokens, middle)) < parts else (middle + 1, high)
    cuts = _filled(tokens, high)
    spare = [at for at in range(1, len(batch)) if at not in cuts]
    return np.split(batch, sorted(cuts + spare[: parts - 1 - len(cuts)]))


def _filled(tokens: np.ndarray, most: int) -> list[int]:
    """Where parts end, all but the last, that are filled up to so much work; `tokens` rise, and the most is more than
    they are."""
    cuts: list[int] = []
    begin = 0
    while True:
        work = np.arange(1, len(tokens) - begin + 1) * tokens[begin:]
        begin += int(np.searchsorted(work, most, "right"))
        if begin == len(tokens):
            return cuts
        cuts.append(begin)
