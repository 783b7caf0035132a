"""fill: rows of CSV into a matrix, compiled. At what it does not know it stops, and tabular.py says what is wrong."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled, inlined
from sagesmith.formats.numbers_compiled import DECLINED, NEGATIVE, decimal, quick_decimal, short_decimals
from sagesmith.formats.words_compiled import BLOCK, ROOM, WORD, U, address_of, byte_at, marks_at, word_at, zeros_below

FINE, RAGGED, TOO_HARD = 0, 1, 2
WINDOW = 4 << 10  # characters whose cells are found before they are read; the first-level cache holds both


@compiled
def fill(text: np.ndarray, delimiter: int, matrix: np.ndarray, hard: np.ndarray) -> tuple[int, int, int]:
    """Reads the lines of `text` (bytes that end in LF) into `matrix` (rows, width) float32.

    Cells that `decimal` declines go to `hard` as (row * width + column, start, stop), for Python to read.

    Returns:
        FINE, RAGGED or TOO_HARD (more of them than `hard` holds), the rows filled, and the number of hard cells.
    """
    begin, width = address_of(text), matrix.shape[1]
    at, stop = begin, begin + len(text)
    starts, ends, words = np.empty(WINDOW, np.int64), np.empty(WINDOW, np.int64), np.empty((3, WINDOW), np.uint64)
    cells = matrix.reshape(-1)
    cell, column, hards, missed = 0, 0, 0, 0
    for window in range(begin, stop, WINDOW):
        last = min(window + WINDOW, stop)
        found = 0
        for index in range(find_ends(window, last, delimiter, ends)):
            end = ends[np.uint64(index)]
            ended = byte_at(end) != delimiter
            if at == end and ended and column == 0:  # second half of CR LF, or a blank line
                at += 1
                continue
            if ended != (column == width - 1):
                return RAGGED, cell // width, hards
            starts[np.uint64(found)], ends[np.uint64(found)] = at, end
            found += 1
            column = 0 if ended else column + 1
            at = end + 1
        values = cells[cell : cell + found]
        if last + ROOM < stop and 2 * missed <= found:  # where the last window had few others
            take_words(starts[:found], ends, words)
            missed = short_decimals(words[0, :found], words[1, :found], words[2, :found], values)
        else:
            words[2, :found] = 0
            missed = found
        for index in range(found if missed else 0):
            if not words[2, index]:
                known, values[index] = long_cell(starts[index], ends[index], delimiter, stop)
                if not known:
                    if hards == len(hard):
                        return TOO_HARD, cell // width, hards
                    hard[hards, 0] = cell + index
                    hard[hards, 1], hard[hards, 2] = starts[index] - begin, ends[index] - begin
                    hards += 1
        cell += found
    return (FINE if column == 0 else RAGGED), cell // width, hards


@inlined
def take_words(starts: np.ndarray, ends: np.ndarray, words: np.ndarray) -> None:
    """What `short_decimals` wants of each cell: characters after the sign in two words, and length and sign."""
    for index in range(len(starts)):
        place = np.uint64(index)
        negative = byte_at(starts[place]) == 45
        start = starts[place] + negative
        words[0, place], words[1, place] = word_at(start), word_at(start + WORD)
        words[2, place] = U(ends[place] - start) | (NEGATIVE if negative else U(0))


@inlined
def find_ends(at: int, stop: int, delimiter: int, ends: np.ndarray) -> int:
    """Where cells end between two addresses: writes those addresses, and returns how many there are."""
    found = 0
    while at + BLOCK <= stop:
        marks = marks_at(at, delimiter)
        while marks:
            ends[np.uint64(found)] = at + zeros_below(marks)
            found += 1
            marks &= marks - np.uint64(1)
        at += BLOCK
    while at < stop:
        if byte_at(at) == delimiter or byte_at(at) == 10 or byte_at(at) == 13:
            ends[np.uint64(found)] = at
            found += 1
        at += 1
    return found


@inlined
def long_cell(at: int, end: int, delimiter: int, stop: int) -> tuple[bool, np.float32]:
    """The value of a cell that `short_decimal` does not know, and whether it is known now; if not, Python reads it."""
    if at + ROOM < stop:
        reached, value = quick_decimal(at)
        if reached == end:
            return True, value
    return any_cell(at, delimiter)


@compiled
def any_cell(at: int, delimiter: int) -> tuple[bool, np.float32]:
    """The value of the cell that begins at `at`, and whether that is known; if not, Python is to read it."""
    while (byte_at(at) == 32 or byte_at(at) == 9) and byte_at(at) != delimiter:
        at += 1
    end, value = at, np.float32(np.nan)
    if byte_at(at) != delimiter and byte_at(at) != 10 and byte_at(at) != 13:
        end, value = decimal(at)
        while end != DECLINED and (byte_at(end) == 32 or byte_at(end) == 9) and byte_at(end) != delimiter:
            end += 1
    if end != DECLINED and (byte_at(end) == delimiter or byte_at(end) == 10 or byte_at(end) == 13):
        return True, value
    return False, np.float32(np.nan)
