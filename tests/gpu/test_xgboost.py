"""XGBoost on a GPU: tree_method gpu_hist trains there and finds what the CPU finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xgboost

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.xgboost.rules import usable_gpus
from sagesmith.testing.check_algorithm import RecordingRun

pytestmark = pytest.mark.skipif(not usable_gpus(RecordingRun()), reason="no GPU that the installed xgboost can use")


def drawn(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    X = random.normal(size=(rows, 8)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] + np.sin(3 * X[:, 2]) + 0.1 * random.normal(size=rows)).astype(np.float32)


@pytest.mark.parametrize("gpu", [{"tree_method": "gpu_hist"}, {"tree_method": "hist", "use_dask_gpu_training": True}])
@pytest.mark.filterwarnings("error")  # of xgboost, should a booster on the GPU be asked about rows in the host's memory
def test_the_gpu_finds_what_the_cpu_finds(
    gpu: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = drawn()
    asked: list[dict[str, object]] = []
    learn = xgboost.train
    monkeypatch.setattr(
        xgboost, "train", lambda given, *rest, **more: (asked.append(given), learn(given, *rest, **more))[1]
    )
    model = XGBoost(num_round=30, **gpu).fit(X, y)
    assert [given["device"] for given in asked] == ["cuda"]
    alone = XGBoost(num_round=30, tree_method="hist").fit(X, y)
    assert model.score(X, y) == pytest.approx(alone.score(X, y), abs=0.01)
    model.save(tmp_path)
    assert np.allclose(XGBoost.load(tmp_path).predict(X), model.predict(X), atol=1e-4)
