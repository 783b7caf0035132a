"""dice, cut_all: a batch of pictures of one size cropped, mirrored and coloured in one call, without the GIL.

Picture by picture, Python takes longer over a small picture than its pixels do, and holds the GIL from the thread that
drives the network. The numbers that decide are those of numpy's Philox, so both ways give the same pixels.
"""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.images.pixels_compiled import cut, shift_colours
from sagesmith.formats.compiled import compiled, inlined

U = np.uint64
HALF = U(0xFFFFFFFF)
FACTORS = (U(0xD2E7470EE14C6C93), U(0xCA5A826395121157))  # of Philox4x64, Salmon et al., SC 2011
BUMPS = (U(0x9E3779B97F4A7C15), U(0xBB67AE8584CAA73B))
ROUNDS = 10


@inlined
def upper(a: np.uint64, b: np.uint64) -> np.uint64:
    """The upper 64 bits of a product."""
    a0, a1, b0, b1 = a & HALF, a >> U(32), b & HALF, b >> U(32)
    middle = a1 * b0 + (a0 * b0 >> U(32))
    other = a0 * b1 + (middle & HALF)
    return a1 * b1 + (middle >> U(32)) + (other >> U(32))


@compiled
def dice(key: np.uint64, number: np.uint64, out: np.ndarray) -> None:
    """Fills `out`, float64, with what `Generator(Philox(key=(key, number))).random` gives."""
    for begin in range(0, len(out), 4):
        c0, c1, c2, c3 = U(begin // 4 + 1), U(0), U(0), U(0)
        k0, k1 = U(key), U(number)
        for _ in range(ROUNDS):
            high0, low0 = upper(FACTORS[0], c0), FACTORS[0] * c0
            high1, low1 = upper(FACTORS[1], c2), FACTORS[1] * c2
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + BUMPS[0], k1 + BUMPS[1]
        block = (c0, c1, c2, c3)
        for i in range(min(4, len(out) - begin)):
            out[begin + i] = (block[i] >> U(11)) * (1.0 / 9007199254740992.0)


@compiled
def cut_all(
    store: np.ndarray, numbers: np.ndarray, key: np.uint64, chance: bool, offsets: np.ndarray, into: np.ndarray
) -> None:
    """Cuts `into[i]`, (h, w, C), out of `store[numbers[i]]`, (H, W * C).

    Args:
        chance: where, and whether mirrored, is drawn; else it is the middle.
        offsets: the largest of hue (of 6), saturation and lightness (of 1), float64; all 0: colours stay.
    """
    height, width, channels = into.shape[1], into.shape[2], into.shape[3]
    across, down = store.shape[2] // channels - width, store.shape[1] - height
    drawn = np.empty(6)
    for i in range(len(numbers)):
        left, top, flip = across // 2, down // 2, False
        if chance:
            dice(key, U(numbers[i]), drawn)
            left, top, flip = int(drawn[0] * (across + 1)), int(drawn[1] * (down + 1)), drawn[2] < 0.5
        cut(store[numbers[i]], channels, into[i], left, top, flip)
        if offsets.any():
            hue, saturation, lightness = offsets * (2 * drawn[3:] - 1)
            shift_colours(into[i].reshape(height * width, channels), hue % 6, saturation, lightness)
