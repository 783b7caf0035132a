"""all_finite: what the checks of every array and channel stand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sagesmith.formats.channel import Channel
from sagesmith.formats.numbers import all_finite

ROWS = np.arange(60, dtype=np.float64).reshape(12, 5)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("laid", [np.ascontiguousarray, np.asfortranarray, lambda rows: rows[::2, 1:]])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_in_any_layout(kind: Any, laid: Any, value: float) -> None:
    rows = ROWS.astype(kind)
    assert all_finite(laid(rows))
    rows[6, 4] = value
    assert not all_finite(laid(rows))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_finite_values_whose_squares_overflow_are_finite(kind: Any) -> None:
    rows = np.full((4, 3), np.finfo(kind).max)
    assert all_finite(rows)
    rows[3, 2] = np.inf
    assert not all_finite(rows)
    assert not all_finite(np.array([np.inf, -np.inf], kind))


def test_a_channel_leaves_the_search_to_its_reader_when_asked() -> None:
    rows = np.array([[1, np.inf]], np.float32)
    with pytest.raises(ValueError, match="contains infinity"):
        Channel.of("train", rows)
    assert Channel.of("train", rows, checked=True).read().features is rows
    with pytest.raises(ValueError, match="too large for dtype"):
        Channel.of("train", np.array([[1, 1e300]]), checked=True)  # conversion makes infinities that nobody gave


def test_nothing_is_finite() -> None:
    assert all_finite(np.empty((0, 3), np.float32))
