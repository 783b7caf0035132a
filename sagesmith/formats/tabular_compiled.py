"""fill: rows of CSV into a matrix, compiled. At what it does not know it stops, and tabular.py says what is wrong."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled
from sagesmith.formats.numbers_compiled import DECLINED, decimal, quick_decimal
from sagesmith.formats.words_compiled import ROOM, byte_at

FINE, RAGGED, TOO_HARD = 0, 1, 2


@compiled
def fill(text: np.ndarray, delimiter: int, matrix: np.ndarray, hard: np.ndarray) -> tuple[int, int, int]:
    """Reads the lines of `text` (bytes that end in LF) into `matrix` (rows, width) float32.

    Cells that `decimal` declines go to `hard` as (row * width + column, start, stop), for Python to read.

    Returns:
        FINE, RAGGED or TOO_HARD (more of them than `hard` holds), the rows filled, and the number of hard cells.
    """
    begin, width = np.int64(text.ctypes.data), matrix.shape[1]
    at, stop = begin, begin + len(text)
    cells = matrix.reshape(-1)
    cell, hards = 0, 0
    while True:
        while at < stop and (byte_at(at) == 10 or byte_at(at) == 13):  # second half of CR LF, or a blank line
            at += 1
        if at == stop:
            return FINE, cell // width, hards
        for left in range(width - 1, -1, -1):
            end, value = at, np.float32(np.nan)
            if at + ROOM < stop:
                end, value = quick_decimal(at)
            mark = byte_at(end)
            if mark != (delimiter if left else 10) and (left or mark != 13):
                place, value, known = any_cell(text, at - begin, delimiter)
                end = begin + place
                if not known:
                    if hards == len(hard):
                        return TOO_HARD, cell // width, hards
                    hard[hards, 0], hard[hards, 1], hard[hards, 2] = cell, at - begin, place
                    hards += 1
                if (byte_at(end) == delimiter) != (left != 0):
                    return RAGGED, cell // width, hards
            cells[np.uint64(cell)] = value
            cell += 1
            at = end + 1


@compiled
def any_cell(text: np.ndarray, at: int, delimiter: int) -> tuple[int, np.float32, bool]:
    """Where the cell that begins at `at` ends, its value, and whether that is known; if not, Python is to read it."""
    while (text[at] == 32 or text[at] == 9) and text[at] != delimiter:
        at += 1
    end, value = at, np.float32(np.nan)
    if text[at] != delimiter and text[at] != 10 and text[at] != 13:
        end, value = decimal(text, at)
        while end != DECLINED and (text[end] == 32 or text[end] == 9) and text[end] != delimiter:
            end += 1
    if end != DECLINED and (text[end] == delimiter or text[end] == 10 or text[end] == 13):
        return end, value, True
    end = at
    while text[end] != delimiter and text[end] != 10 and text[end] != 13:
        end += 1
    return end, value, False
