"""Chance: random numbers, words drawn as noise, and the logistic function, in compiled code.

Words are drawn by Walker's alias method (ACM Transactions on Mathematical Software 3, 1977): one look into eight bytes
a word, where word2vec's table of a hundred million entries is as large as memory is slow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

U = np.uint64
LOW = U(0xFFFFFFFF)
LIMIT = 8.0  # beyond it the logistic function is 0 or 1, as in fastText
STEPS = 4096  # entries of its table
LOGISTIC = (1 / (1 + np.exp(-(np.arange(STEPS + 1) / STEPS * 2 * LIMIT - LIMIT)))).astype(np.float32)


@inlined
def drawn(state: np.ndarray) -> Any:
    """64 random bits (xorshift64*: Vigna, 2016); `state` is one uint64, not 0."""
    x = state[0]
    x ^= x >> U(12)
    x ^= x << U(25)
    x ^= x >> U(27)
    state[0] = x
    return x * U(0x2545F4914F6CDD1D)


@compiled
def seeded(seed: int, state: np.ndarray) -> None:
    """Starts the random numbers that belong to a seed (splitmix64)."""
    x = U(seed) * U(0x9E3779B97F4A7C15) + U(0x9E3779B97F4A7C15)
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    state[0] = (x ^ (x >> U(31))) | U(1)


@inlined
def below(state: np.ndarray, bound: int) -> Any:
    """A whole number from 0 to bound - 1."""
    return np.int64(((drawn(state) >> U(32)) * U(bound)) >> U(32))


@inlined
def word_drawn(state: np.ndarray, noise: np.ndarray) -> Any:
    """A word from the distribution that `noise_of` was told."""
    bits = drawn(state)
    word = np.int64(((bits >> U(32)) * U(len(noise))) >> U(32))
    entry = noise[word]
    return word if (bits & LOW) < (entry >> U(32)) else np.int64(entry & LOW)


@inlined
def logistic(x: Any, table: np.ndarray) -> Any:
    """1 / (1 + exp(-x)), from `LOGISTIC`."""
    at: Any = np.int64((x + np.float32(LIMIT)) * np.float32(STEPS / (2 * LIMIT)) + np.float32(0.5))
    return table[min(max(at, 0), STEPS)]


@compiled
def alias(weights: np.ndarray, entries: np.ndarray) -> None:
    """Entries for `word_drawn`, (n,) uint64: threshold in the upper half, the other word in the lower."""
    count = len(weights)
    share = weights * (count / weights.sum())
    small, large = np.empty(count, np.int64), np.empty(count, np.int64)
    smalls = larges = 0
    for word in range(count):
        entries[word] = (LOW << U(32)) | U(word)
        if share[word] < 1:
            small[smalls] = word
            smalls += 1
        else:
            large[larges] = word
            larges += 1
    while smalls and larges:
        smalls -= 1
        poor, rich = small[smalls], large[larges - 1]
        entries[poor] = (U(share[poor] * 4294967296.0) << U(32)) | U(rich)
        share[rich] -= 1 - share[poor]
        if share[rich] < 1:
            larges -= 1
            small[smalls] = rich
            smalls += 1


def noise_of(counts: np.ndarray, power: float) -> np.ndarray:
    """What `word_drawn` draws from: words with a chance of count ** power."""
    entries = np.empty(len(counts), np.uint64)
    alias(counts.astype(np.float64) ** power, entries)
    return entries
