"""decimal: the common forms of a number in text, compiled; what it does not know or cannot round surely, it declines.

A decimal becomes float32 by way of the nearest float64, as in Python. With at most 19 digits as an integer m and a
table of powers of ten, m * 10^e is off by less than two units in the last place of float64. That settles the float32
except within a hair of the midpoint between two of them (one number in some 10^8), which is declined.
"""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled

POWERS = np.array([float(f"1e{power}") for power in range(60)])
EXACT_POWER = 22  # 10^22 is the largest power of ten that float64 holds exactly
EXACT_DIGITS = 1 << 53
HAIR = 2.0**-49
SMALLEST, LARGEST = 1e-37, 3e38  # beyond lie subnormal float32 numbers and infinity

DECLINED = -1


@compiled
def exponent_at(text: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """Where the digits after an `e` end, and the power they say."""
    negative = False
    if at < stop and (text[at] == 45 or text[at] == 43):
        negative = text[at] == 45
        at += 1
    power, begun = 0, at
    while at < stop and np.uint8(text[at] - 48) < 10:
        power = min(power * 10 + (text[at] - 48), 10000)
        at += 1
    if at == begun:
        return DECLINED, 0
    return at, -power if negative else power


@compiled
def rounded(digits: np.uint64, exponent: int) -> tuple[bool, np.float32]:
    """digits * 10^exponent, and whether that is surely the float32 that Python would give."""
    if digits == 0:
        return True, np.float32(0)
    if exponent < -59 or exponent > 59:
        return False, np.float32(0)
    value = np.float64(digits)
    value = value / POWERS[-exponent] if exponent < 0 else value * POWERS[exponent]
    if not SMALLEST < value < LARGEST:
        return False, np.float32(0)
    exact = digits <= EXACT_DIGITS and -EXACT_POWER <= exponent <= EXACT_POWER
    sure = exact or np.float32(value * (1.0 - HAIR)) == np.float32(value * (1.0 + HAIR))
    return sure, np.float32(value)


@compiled
def decimal(text: np.ndarray, start: int, stop: int) -> tuple[int, np.float32]:
    """The number that begins at `start`: where it ends, and its value; DECLINED where there is none it knows."""
    at = start
    negative = False
    if at < stop and (text[at] == 45 or text[at] == 43):  # - +
        negative = text[at] == 45
        at += 1
    digits = np.uint64(0)
    counted, exponent, seen = 0, 0, False
    while at < stop and np.uint8(text[at] - 48) < 10:
        if counted < 19:
            digits = digits * np.uint64(10) + np.uint64(text[at] - 48)
            counted += digits != 0
        else:
            exponent += 1
        seen = True
        at += 1
    if at < stop and text[at] == 46:  # .
        at += 1
        while at < stop and np.uint8(text[at] - 48) < 10:
            if counted < 19:
                digits = digits * np.uint64(10) + np.uint64(text[at] - 48)
                counted += digits != 0
                exponent -= 1
            seen = True
            at += 1
    if not seen:
        return DECLINED, np.float32(0)
    if at < stop and (text[at] | 32) == 101:  # e E
        at, power = exponent_at(text, at + 1, stop)
        if at == DECLINED:
            return DECLINED, np.float32(0)
        exponent += power
    sure, value = rounded(digits, exponent)
    return at if sure else DECLINED, np.float32(-value if negative else value)
