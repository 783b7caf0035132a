"""PCA of sparse rows: their zeros are never made, and wide ones are no trouble."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import PCA
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.recordio_writer import write_records


def test_two_hundred_thousand_columns_need_little_memory() -> None:
    random = np.random.default_rng(0)
    places = random.integers(0, 2_000, 80_000), random.integers(0, 200_000, 80_000)
    rows = sparse.csr_matrix((random.normal(size=80_000), places), shape=(2_000, 200_000), dtype=np.float32)
    model = PCA(num_components=2, algorithm_mode="randomized", extra_components=6)
    tracemalloc.start()
    model.fit(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000 * 200_000 * 4 / 4, "a quarter of the rows with their zeros"
    assert model.transform(rows[:3]).shape == (3, 2)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
def test_rows_come_sparse_from_a_file_in_several_updates(tmp_path: Path, mode: str) -> None:
    rows = sparse.random(6_000, 90, density=0.03, format="csr", dtype=np.float32, random_state=1)
    for number in range(3):
        (tmp_path / f"{number}.pbr").write_bytes(write_records(Batch(rows[2_000 * number : 2_000 * (number + 1)])))
    channel = Channel.from_folder("train", tmp_path, "application/x-recordio-protobuf")
    settings = {"num_components": 4, "algorithm_mode": mode, "extra_components": 5}
    read = PCA(**settings, feature_dim=90).fit(channel)
    given = PCA(**settings).fit(rows.toarray())
    assert read.rows_ == 6_000
    np.testing.assert_allclose(read.s_, given.s_, rtol=1e-5)
    np.testing.assert_allclose(read.score(rows), given.score(rows), rtol=1e-5)


def test_dense_and_sparse_records_mix() -> None:
    rows = np.random.default_rng(3).normal(size=(200, 7)).astype(np.float32)
    whole, model = PCA(num_components=3).fit(rows), PCA(num_components=3)
    model.fit(Channel.of("train", sparse.vstack([sparse.csr_matrix(rows[:90]), rows[90:]])))
    np.testing.assert_allclose(model.s_, whole.s_, rtol=1e-5)
