"""Rows gathered block by block are the rows that a plain join gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms.xgboost import gathering
from sagesmith.formats.batch import Batch, join
from sagesmith.formats.errors import DataError

SIZES = [3, 1, 4, 1, 5, 9, 2, 6]


def batches(widths: Any = 3, weighted: Any = (), grouped: bool = False) -> list[Batch]:
    random = np.random.default_rng(0)
    made = []
    for number, rows in enumerate(SIZES):
        width = widths if isinstance(widths, int) else widths[number]
        features, label = random.normal(size=(rows, width)).astype(np.float32), random.normal(size=rows)
        weight = random.uniform(size=rows).astype(np.float32) if number in weighted else None
        group = np.full(rows, number) if grouped else None
        made.append(Batch(features, label.astype(np.float32), weight, group))
    return made


def same(found: Batch | None, expected: Batch) -> None:
    assert found is not None
    assert type(found.features) is type(expected.features)
    dense = [np.asarray(each.features.todense() if each.is_sparse else each.features) for each in (found, expected)]  # type: ignore[union-attr]
    assert np.array_equal(*dense)
    for name in ("label", "weight", "group"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or np.array_equal(ours, theirs), name


@pytest.mark.parametrize("block", [1, 60, 120, 1 << 20])
@pytest.mark.parametrize("options", [{}, {"weighted": (1, 4)}, {"grouped": True}])
def test_dense_rows_over_block_bounds(block: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "BLOCK_BYTES", block)
    same(gathering.gather(iter(batches(**options))), join(batches(**options)))


@pytest.mark.parametrize("which", [range(8), [0], [3], [7]])
def test_sparse_rows_and_mixtures(which: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "BLOCK_BYTES", 60)
    mixed = batches()
    for number in which:
        mixed[number] = Batch(sparse.csr_matrix(mixed[number].features), mixed[number].label)
    same(gathering.gather(iter(mixed)), join(mixed))


def test_none_and_one() -> None:
    assert gathering.gather([]) is None
    one = batches()[0]
    assert gathering.gather([one]) is one


def test_rows_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(DataError, match="rows of 3 and of 4 feature columns"):
        gathering.gather(batches(widths=[3, 3, 3, 4, 3, 3, 3, 3]))
    some = [*batches(), Batch(np.zeros((2, 3), np.float32))]
    with pytest.raises(DataError, match="some rows have a label"):
        gathering.gather(some)
