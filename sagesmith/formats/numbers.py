"""number: what counts as a number in text data. The compiled readers take only what reads the same here."""

from __future__ import annotations

from math import nan

import numpy as np


def number(cell: bytes) -> float:
    """A decimal number, `nan` or `inf` in any case, with spaces or one pair of double quotes around it; empty is NaN.

    Raises:
        ValueError: anything else.
    """
    text = cell.strip()
    if len(text) >= 2 and text[:1] == text[-1:] == b'"':
        text = text[1:-1].strip()
    if not text:
        return nan
    if b"_" in text:  # Python's digit separator, which no data format knows
        raise ValueError(text)
    return float(text)


def shown(cell: bytes) -> str:
    """A cell for an error message: short, printable."""
    text = repr(cell[:40].decode("utf-8", "replace"))
    return text + "…" if len(cell) > 40 else text


def all_finite(values: np.ndarray) -> bool:
    """Whether floats hold neither NaN nor infinity: one pass, by all threads where they lie side by side in memory."""
    with np.errstate(over="ignore", invalid="ignore"):
        if values.flags.forc and values.dtype in (np.float32, np.float64):
            flat = values.ravel(order="K")
            total = np.dot(flat, flat)
        else:
            total = values.sum()
        return bool(np.isfinite(total)) or bool(np.isfinite(values).all())  # finite ones may have overflown


def float32(values: np.ndarray | list[float]) -> np.ndarray:
    """Rounds to float32; what is too large becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)
