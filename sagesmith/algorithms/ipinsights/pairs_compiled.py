"""Lines of `entity,IPv4` and entities by themselves, read in compiled code. What is wrong is for pairs.py to word."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

FINE, ONE_COLUMN, NO_ENTITY, NOT_IPV4, MORE_COLUMNS, OPEN_QUOTE = 0, 1, 2, 3, 4, 5
LF, CR, TAB, SPACE, QUOTE, COMMA, DOT, ZERO = 10, 13, 9, 32, 34, 44, 46, 48

# FNV-1a over the bytes, then MurmurHash3's 64-bit finalizer, as FNV alone leaves the low bits of similar names alike.
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
MIX_1, MIX_2, HALF = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)


@inlined
def mixed(word: np.uint64) -> np.uint64:
    """MurmurHash3's fmix64."""
    word = (word ^ (word >> HALF)) * MIX_1
    word = (word ^ (word >> HALF)) * MIX_2
    return word ^ (word >> HALF)


@compiled
def hash_texts(text: np.ndarray, starts: np.ndarray, seed: np.uint64, hashes: np.ndarray) -> None:
    """The hashes of texts that lie one after the other: text k is bytes starts[k] to starts[k + 1]."""
    for k in range(len(starts) - 1):
        word = FNV_OFFSET ^ seed
        for at in range(starts[k], starts[k + 1]):
            word = (word ^ np.uint64(text[at])) * FNV_PRIME
        hashes[k] = mixed(word)


@compiled
def read_lines(text: np.ndarray, seed: np.uint64, hashes: np.ndarray, ips: np.ndarray) -> tuple[int, int, int]:
    """Reads lines of bytes into entity hashes (n,) uint64 and addresses (n,) uint32.

    Spaces and tabs around both columns are dropped; either may stand in double quotes, `""` then is one quote.

    Returns:
        FINE or what is wrong with the line at which it stopped, the rows read, and the lines before that one.
    """
    at, stop, row, line = 0, len(text), 0, 0
    while at < stop:
        if text[at] == LF or text[at] == CR:  # a blank line, or the end of one
            at += 2 if text[at] == CR and at + 1 < stop and text[at + 1] == LF else 1
            line += 1
            continue
        status, at, hashes[row] = _entity(text, at, stop, seed)
        if status == FINE:
            status, at, ips[row] = _address(text, at, stop)
        if status != FINE:
            return status, row, line
        row += 1
    return FINE, row, line


@compiled
def read_addresses(text: np.ndarray, starts: np.ndarray, ips: np.ndarray) -> int:
    """Reads addresses that lie one after the other into (n,) uint32; returns the first that is none, or n."""
    for k in range(len(ips)):
        status, at, ips[k] = _address(text, starts[k], starts[k + 1])
        if status != FINE or at != starts[k + 1]:
            return k
    return len(ips)


@inlined
def _past_spaces(text: np.ndarray, at: int, stop: int) -> int:
    while at < stop and (text[at] == SPACE or text[at] == TAB):
        at += 1
    return at


@compiled
def _entity(text: np.ndarray, at: int, stop: int, seed: np.uint64) -> tuple[int, int, np.uint64]:
    """Status, the place behind the comma, and the hash."""
    word, length = FNV_OFFSET ^ seed, 0
    at = _past_spaces(text, at, stop)
    if at < stop and text[at] == QUOTE:
        at += 1
        while True:
            if at >= stop or text[at] == LF or text[at] == CR:
                return OPEN_QUOTE, at, word
            if text[at] == QUOTE:
                at += 1
                if at >= stop or text[at] != QUOTE:
                    break
            word = (word ^ np.uint64(text[at])) * FNV_PRIME
            length += 1
            at += 1
        at = _past_spaces(text, at, stop)
    else:
        begin = at
        while at < stop and text[at] != COMMA and text[at] != LF and text[at] != CR:
            at += 1
        end = at
        while end > begin and (text[end - 1] == SPACE or text[end - 1] == TAB):
            end -= 1
        for place in range(begin, end):
            word = (word ^ np.uint64(text[place])) * FNV_PRIME
        length = end - begin
    if at >= stop or text[at] != COMMA:
        return ONE_COLUMN, at, word
    return (FINE if length else NO_ENTITY), at + 1, mixed(word)


@compiled
def _address(text: np.ndarray, at: int, stop: int) -> tuple[int, int, np.uint32]:
    """Status, the place at the end of the line, and the address. Leading zeros, octal to some, are refused."""
    at = _past_spaces(text, at, stop)
    quoted = at < stop and text[at] == QUOTE
    at += 1 if quoted else 0
    value = 0
    for part in range(4):
        begin, number = at, 0
        while at < stop and at - begin < 3 and ZERO <= text[at] <= ZERO + 9:
            number = number * 10 + text[at] - ZERO
            at += 1
        if at == begin or number > 255 or (text[begin] == ZERO and at - begin > 1):
            return NOT_IPV4, at, np.uint32(0)
        if part < 3:
            if at >= stop or text[at] != DOT:
                return NOT_IPV4, at, np.uint32(0)
            at += 1
        value = value * 256 + number
    if quoted:
        if at >= stop or text[at] != QUOTE:
            return NOT_IPV4, at, np.uint32(0)
        at += 1
    at = _past_spaces(text, at, stop)
    if at < stop and text[at] == COMMA:
        return MORE_COLUMNS, at, np.uint32(0)
    if at < stop and text[at] != LF and text[at] != CR:
        return NOT_IPV4, at, np.uint32(0)
    return FINE, at, np.uint32(value)
