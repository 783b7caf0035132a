"""fill: rows of CSV into a matrix, compiled. At what it does not know it stops, and tabular.py says what is wrong."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled
from sagesmith.formats.numbers_compiled import DECLINED, decimal, quick_decimal
from sagesmith.formats.words_compiled import ROOM, address_of, byte_at

FINE, RAGGED, TOO_HARD = 0, 1, 2


@compiled
def fill(text: np.ndarray, delimiter: int, matrix: np.ndarray, hard: np.ndarray) -> tuple[int, int, int]:
    """Reads the lines of `text` (bytes that end in LF) into `matrix` (rows, width) float32.

    Cells that `decimal` declines go to `hard` as (row * width + column, start, stop), for Python to read.

    Returns:
        FINE, RAGGED or TOO_HARD (more of them than `hard` holds), the rows filled, and the number of hard cells.
    """
    begin, width = address_of(text), matrix.shape[1]
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
                end, value, known = any_cell(at, delimiter)
                if not known:
                    if hards == len(hard):
                        return TOO_HARD, cell // width, hards
                    hard[hards, 0], hard[hards, 1], hard[hards, 2] = cell, at - begin, end - begin
                    hards += 1
                if (byte_at(end) == delimiter) != (left != 0):
                    return RAGGED, cell // width, hards
            cells[np.uint64(cell)] = value
            cell += 1
            at = end + 1


@compiled
def any_cell(at: int, delimiter: int) -> tuple[int, np.float32, bool]:
    """Where the cell that begins at `at` ends, its value, and whether that is known; if not, Python is to read it."""
    while (byte_at(at) == 32 or byte_at(at) == 9) and byte_at(at) != delimiter:
        at += 1
    end, value = at, np.float32(np.nan)
    if byte_at(at) != delimiter and byte_at(at) != 10 and byte_at(at) != 13:
        end, value = decimal(at)
        while end != DECLINED and (byte_at(end) == 32 or byte_at(end) == 9) and byte_at(end) != delimiter:
            end += 1
    if end != DECLINED and (byte_at(end) == delimiter or byte_at(end) == 10 or byte_at(end) == 13):
        return end, value, True
    end = at
    while byte_at(end) != delimiter and byte_at(end) != 10 and byte_at(end) != 13:
        end += 1
    return end, value, False
