"""decimal: the common forms of a number in text, compiled; what it does not know or cannot round surely, it declines.

A decimal becomes float32 by way of the nearest float64, as in Python. With at most 19 digits as an integer m and a
table of powers of ten, m * 10^e is off by less than two units in the last place of float64. That settles the float32
except within a hair of the midpoint between two of them (one number in some 10^8), which is declined.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.words_compiled import (
    TEN_TO,
    TOP_BITS,
    WORD,
    ZEROS,
    U,
    all_digits,
    byte_at,
    digits_of,
    valued,
    word_at,
    zeros_below,
)

POWERS = np.array([float(f"1e{power}") for power in range(60)])
EXACT_POWER = 22  # 10^22 is the largest power of ten that float64 holds exactly
EXACT_DIGITS = 1 << 53
MOST_PLACES = 19  # digits that surely fit into 64 bits
MOST_DIGITS = 10**18  # below it, another digit fits into 64 bits
HAIR = 2.0**-49
SMALLEST, LARGEST = 1e-37, 3e38  # beyond lie subnormal float32 numbers and infinity

DECLINED = -1
SHORT = 2 * WORD  # characters of a number that two words hold
NEGATIVE = U(1 << 63)
DOTS, ONES = U(0x2E2E2E2E2E2E2E2E), U(0x0101010101010101)


@compiled
def exponent_at(at: int) -> tuple[int, int]:
    """Where the digits after an `e` end, and the power they say."""
    negative = byte_at(at) == 45
    if negative or byte_at(at) == 43:
        at += 1
    power, begun = 0, at
    while np.uint8(byte_at(at) - 48) < 10:
        power = min(power * 10 + (byte_at(at) - 48), 10000)
        at += 1
    if at == begun:
        return DECLINED, 0
    return at, -power if negative else power


@inlined
def rounded(digits: np.uint64, exponent: int) -> tuple[bool, np.float32]:
    """digits * 10^exponent, and whether that is surely the float32 that Python would give."""
    if exponent == 0 and digits <= EXACT_DIGITS:  # a short whole number, zero too; signed conversion is the faster one
        return True, np.float32(np.float64(np.int64(digits)))
    if digits == 0:
        return True, np.float32(0)
    if exponent < -59 or exponent > 59:
        return False, np.float32(0)
    value = np.float64(np.int64(digits)) if digits <= EXACT_DIGITS else np.float64(digits)
    value = value / POWERS[np.uint64(-exponent)] if exponent < 0 else value * POWERS[np.uint64(exponent)]
    if not SMALLEST < value < LARGEST:
        return False, np.float32(0)
    exact = digits <= EXACT_DIGITS and -EXACT_POWER <= exponent <= EXACT_POWER
    sure = exact or np.float32(value * (1.0 - HAIR)) == np.float32(value * (1.0 + HAIR))
    return sure, np.float32(value)


@compiled
def leading_digits(at: int) -> tuple[Any, Any]:
    """The leading digits of a long number that begins at `at`, as many as fit, and the power of ten to them."""
    digits, exponent, point = np.uint64(0), 0, False
    while np.uint8(byte_at(at) - 48) < 10 or (byte_at(at) == 46 and not point):
        if byte_at(at) == 46:
            point = True
        elif digits < MOST_DIGITS:
            digits = digits * np.uint64(10) + np.uint64(byte_at(at) - 48)
            exponent -= point
        else:
            exponent += not point
        at += 1
    return digits, exponent


@compiled
def decimal(at: int) -> tuple[int, np.float32]:
    """The number that begins at `at`: where it ends, and its value; DECLINED where there is none it knows.

    The text must end in a byte that no number has (a newline), since that is what stops the loops.
    """
    negative = byte_at(at) == 45  # -
    if negative or byte_at(at) == 43:  # +
        at += 1
    begun = at
    digits = np.uint64(0)
    while np.uint8(byte_at(at) - 48) < 10:
        digits = digits * np.uint64(10) + np.uint64(byte_at(at) - 48)
        at += 1
    length = at - begun
    exponent = 0
    if byte_at(at) == 46:  # .
        at += 1
        point = at
        while np.uint8(byte_at(at) - 48) < 10:
            digits = digits * np.uint64(10) + np.uint64(byte_at(at) - 48)
            at += 1
        exponent = point - at
        length += at - point
    if length == 0:
        return DECLINED, np.float32(0)
    if length > 19:  # more than fit: the sum above is wrong
        digits, exponent = leading_digits(begun)
    if (byte_at(at) | 32) == 101:  # e E
        at, power = exponent_at(at + 1)
        if at == DECLINED:
            return DECLINED, np.float32(0)
        exponent += power
    sure, value = rounded(digits, exponent)
    return at if sure else DECLINED, np.float32(-value if negative else value)


@inlined
def quick_decimal(at: int) -> tuple[int, np.float32]:
    """The same as `decimal` for the plain ways to write a number, without a branch for how many digits there are.

    Up to ROOM bytes from `at` on are looked at. Where the number is not for here, the answer is NaN and `at` itself,
    which is also what an empty cell should give.
    """
    begun = at
    negative = byte_at(at) == 45
    at += negative
    length, digits = digits_of(word_at(at))
    if length == WORD:
        more, low = digits_of(word_at(at + WORD))
        digits = digits * TEN_TO[more] + low
        length += more
    at += length
    places = 0
    if byte_at(at) == 46:  # .
        at += 1
        places, fraction = fraction_at(at)
        if places + length > MOST_PLACES and (digits != 0 or places > MOST_PLACES):
            return begun, np.float32(np.nan)
        digits = digits * TEN_TO[places] + fraction
        at += places
    if length + places == 0 or length == 2 * WORD:  # none, or perhaps more than those
        return begun, np.float32(np.nan)
    exponent = -places
    if (byte_at(at) | 32) == 101:  # e E
        length, power = short_exponent(at + 1)
        if length == 0:
            return begun, np.float32(np.nan)
        at += 1 + length
        exponent += power
    sure, value = rounded(digits, exponent)
    if not sure:
        return begun, np.float32(np.nan)
    return at, -value if negative else value


@inlined
def fraction_at(at: int) -> tuple[int, np.uint64]:
    """How many digits there are from `at` on, and the number that they write; right for up to 19."""
    length, value = digits_of(word_at(at))
    full = length >> 3
    more, low = digits_of(word_at(at + WORD))  # even if it follows a shorter one: no branch
    more *= full
    value = value * TEN_TO[more] + low * np.uint64(full)
    length += more
    if length == 2 * WORD:
        more, low = digits_of(word_at(at + length))
        value = value * TEN_TO[more] + low
        length += more
    return length, value


@inlined
def short_exponent(at: int) -> tuple[Any, Any]:
    """How many characters the power after an `e` has, 0 if that is not for here, and the power."""
    sign = byte_at(at)
    signed = np.int64(sign == 45 or sign == 43)
    length, digits = digits_of(word_at(at + signed))
    if length == 0 or length > 4:
        return 0, 0
    power = np.int64(digits)
    return length + signed, -power if sign == 45 else power


@inlined
def short_decimals(lows: np.ndarray, highs: np.ndarray, lengths: np.ndarray, values: np.ndarray) -> int:
    """The numbers of cells of at most SHORT characters after the sign, digits with or without a point; no exponent.

    Where a cell ends is known before and nothing depends on what the one before holds, so that the compiler can work on
    several at a time by vector instructions; hence no branch either.

    lows, highs (n,) uint64: a cell's first characters after the sign, and what follows. lengths (n,) uint64: how many
    belong to it, NEGATIVE added to it where there was a minus; replaced by whether it is such a number. values (n,)
    float32: filled. Returns how many are none.
    """
    missed = U(0)
    for i in range(len(lengths)):
        low, high, length = lows[i], highs[i], lengths[i] & ~NEGATIVE
        distance = low ^ DOTS
        point = U(zeros_below((distance - ONES) & ~distance & TOP_BITS)) >> U(3)
        pointed = point < min(length, U(WORD))
        before = (U(1) << ((point << U(3)) & U(63))) - U(1) if pointed else ~U(0)
        low = (low & before) | (((low >> U(8)) | (high << U(56))) & ~before)
        high = high >> U(8) if pointed else high
        digits = length - U(pointed)
        low, high = last_placed(low ^ ZEROS, high ^ ZEROS, digits)
        whole = valued(low) * TEN_TO[WORD] + valued(high)
        places = (length - point - U(1)) & U(SHORT - 1) if pointed else U(0)
        value = np.float32(np.float64(np.int64(whole)) / POWERS[places])
        known = (digits - U(1) < U(SHORT)) & (length <= U(SHORT)) & all_digits(low, high) & (whole <= U(EXACT_DIGITS))
        values[i] = -value if lengths[i] & NEGATIVE else value
        lengths[i] = U(known)
        missed += U(not known)
    return int(missed)


@inlined
def last_placed(low: np.uint64, high: np.uint64, count: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The first `count` (1 to 16) of sixteen bytes as the last, zeros before them."""
    shift = (U(SHORT) - count) << U(3)
    near, rest = shift & U(63), U(63) - (shift & U(63))
    if shift & U(64):
        return U(0), low << near
    return low << near, (high << near) | ((low >> U(1)) >> rest)
