"""fill: rows of CSV into a matrix, compiled. At what it does not know it stops, and tabular.py says what is wrong."""

from __future__ import annotations

import numpy as np

from sagesmith.formats.compiled import compiled
from sagesmith.formats.numbers_compiled import DECLINED, decimal

FINE, RAGGED, TOO_HARD = 0, 1, 2


@compiled
def fill(text: np.ndarray, delimiter: int, matrix: np.ndarray, hard: np.ndarray) -> tuple[int, int, int]:
    """Reads the lines of `text` (bytes that end in LF) into `matrix` (rows, width) float32.

    Cells that `decimal` declines go to `hard` as (row * width + column, start, stop), for Python to read.

    Returns:
        FINE, RAGGED or TOO_HARD (more of them than `hard` holds), the rows filled, and the number of hard cells.
    """
    at, stop, width = 0, len(text), matrix.shape[1]
    row, hards = 0, 0
    while True:
        while at < stop and (text[at] == 10 or text[at] == 13):  # second half of CR LF, or a blank line
            at += 1
        if at == stop:
            return FINE, row, hards
        for column in range(width):
            start = at
            while (text[at] == 32 or text[at] == 9) and text[at] != delimiter:
                at += 1
            value = np.float32(np.nan)
            end = at
            if text[at] != delimiter and text[at] != 10 and text[at] != 13:
                end, value = decimal(text, at)
                while end != DECLINED and (text[end] == 32 or text[end] == 9) and text[end] != delimiter:
                    end += 1
            if end == DECLINED or (text[end] != delimiter and text[end] != 10 and text[end] != 13):
                end = at
                while text[end] != delimiter and text[end] != 10 and text[end] != 13:
                    end += 1
                if hards == len(hard):
                    return TOO_HARD, row, hards
                hard[hards, 0], hard[hards, 1], hard[hards, 2] = row * width + column, start, end
                hards += 1
            matrix[row, column] = value
            if (text[end] == delimiter) == (column == width - 1):
                return RAGGED, row, hards
            at = end + 1
        row += 1
