"""parse: libsvm lines to CSR arrays, compiled. At what it does not know it stops, and libsvm.py says what is wrong."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled
from sagesmith.formats.numbers_compiled import DECLINED, decimal, quick_decimal
from sagesmith.formats.words_compiled import ROOM, address_of, byte_at

FINE, NOT_MINE = 0, 1
LARGEST_INDEX = 2**31 - 2


@compiled
def parse(
    text: np.ndarray,
    labels: np.ndarray,
    starts: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    hard: np.ndarray,
) -> tuple[int, int, int, int]:
    """Reads lines (bytes that end in LF) of `label index:value …` with rising indices; Python reads all others.

    Values that `decimal` declines go to `hard` as (position, start, stop); positions below 0 are labels: -1 - row.

    Returns:
        FINE or NOT_MINE, rows, values, hard ones.
    """
    begin = address_of(text)
    at, stop = begin, begin + len(text)
    row, count, hards = 0, 0, 0
    while True:
        while at < stop and (byte_at(at) == 10 or byte_at(at) == 13 or byte_at(at) == 32 or byte_at(at) == 9):
            at += 1
        if at == stop:
            return FINE, row, count, hards
        end, value = decimal(at)
        if end == DECLINED or (byte_at(end) > 32):
            return NOT_MINE, row, count, hards
        labels[row] = value
        at = end
        before = -1
        while True:
            while byte_at(at) == 32 or byte_at(at) == 9:
                at += 1
            if byte_at(at) == 10 or byte_at(at) == 13:
                break
            key, begun = 0, at
            while np.uint8(byte_at(at) - 48) < 10 and key <= LARGEST_INDEX:
                key = key * 10 + (byte_at(at) - 48)
                at += 1
            if at == begun or byte_at(at) != 58 or key <= before or key > LARGEST_INDEX:
                return NOT_MINE, row, count, hards
            at += 1
            end, value = at, np.float32(0)
            if at + ROOM < stop:
                end, value = quick_decimal(at)
            if end == at or byte_at(end) > 32:
                end, value = decimal(at)
            if end == DECLINED or byte_at(end) > 32:
                end = at
                while byte_at(end) > 32:
                    end += 1
                if hards == len(hard):
                    return NOT_MINE, row, count, hards
                hard[hards, 0], hard[hards, 1], hard[hards, 2] = count, at - begin, end - begin
                hards += 1
            keys[count], values[count] = key, value
            before = key
            count += 1
            at = end
        row += 1
        starts[row] = count
