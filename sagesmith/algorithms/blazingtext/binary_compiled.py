"""The dictionary of a model file, read by compiled code: there may be millions of words."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled

AFTER = 9  # bytes of count and type behind a word's NUL


@compiled
def entries(data: np.ndarray, at: int, starts: np.ndarray, counts: np.ndarray, kinds: np.ndarray) -> int:
    """Where words begin once they are side by side, how often they occurred, and their types; the place after them.

    Returns -1 when the data end sooner.
    """
    for entry in range(len(counts)):
        begin = at
        while at < len(data) and data[at] != 0:
            at += 1
        if at + 1 + AFTER > len(data):
            return -1
        starts[entry + 1] = starts[entry] + at - begin
        count = np.uint64(0)
        for k in range(8):
            count |= np.uint64(data[at + 1 + k]) << np.uint64(8 * k)
        counts[entry] = np.int64(count)
        kinds[entry] = np.int8(data[at + AFTER])
        at += 1 + AFTER
    return at


@compiled
def letters_of(data: np.ndarray, at: int, starts: np.ndarray, letters: np.ndarray) -> None:
    """The words side by side."""
    for entry in range(len(starts) - 1):
        length = starts[entry + 1] - starts[entry]
        for k in range(length):
            letters[starts[entry] + k] = data[at + k]
        at += length + 1 + AFTER
