"""discriminator_auc: how often a real pair of the validation channel scores higher than a negative one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sagesmith.algorithms.ipinsights.network import Network

SEED = 20180919  # of the validation's negatives: the same in every epoch, job and tuning trial, so that values compare


def discriminator_auc(
    network: Network, slots: np.ndarray, ips: np.ndarray, random_negatives: int, shuffled_negatives: int, threads: int
) -> float:
    """The area under the ROC curve of real against negative pairs, ties counting half; NaN without negatives.

    Memory does not grow with the number of negatives per row.
    """
    real = np.sort(network.scores(slots, ips, threads))
    above, count = 0.0, 0
    for addresses in negatives(ips, random_negatives, shuffled_negatives):
        scores = network.scores(slots, addresses, threads)
        below = np.searchsorted(real, scores, "left").sum() + np.searchsorted(real, scores, "right").sum()
        above += len(real) * len(scores) - below / 2
        count += len(real) * len(scores)
    return float(above / count) if count else float("nan")


def negatives(ips: np.ndarray, random_negatives: int, shuffled_negatives: int) -> Iterator[np.ndarray]:
    """R columns of uniformly random addresses, then S permutations of the addresses (none of a single one)."""
    random = np.random.default_rng(SEED)
    for _ in range(random_negatives):
        yield random.integers(0, 1 << 32, len(ips), np.uint32)
    for _ in range(shuffled_negatives if len(ips) > 1 else 0):
        yield random.permutation(ips)
