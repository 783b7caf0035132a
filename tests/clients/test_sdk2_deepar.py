"""DeepAR through a real client: the SDK's generic estimator, an endpoint and a batch transform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.testing.server import RunningServer
from tests.algorithms.deepar_series import AS_STRINGS, drawn, lines, shortened
from tests.clients.live import run_flow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(server: RunningServer, folder: Path) -> dict[str, Any]:
    (folder / "deepar-settings.json").write_text(json.dumps(AS_STRINGS))
    (folder / "series-train.json").write_text(lines(drawn()))
    (folder / "series-test.json").write_text(lines(drawn(seed=9)))
    (folder / "series-batch.json").write_text(lines(shortened(drawn(5, seed=4), 12)))
    return run_flow(server, 2, "sdk2_deepar", folder)


def test_the_job_is_measured(seen: dict[str, Any]) -> None:
    assert "/forecasting-deepar:" in seen["image"]
    assert 0 < seen["metrics"]["test:mean_wQuantileLoss"] < 0.1
    assert seen["metrics"]["test:RMSE"] > 0
    assert "train:final_loss" in seen["metrics"]


def test_endpoint_and_transform_forecast_alike(seen: dict[str, Any]) -> None:
    truths = np.array([record["target"][-12:] for record in drawn(5, seed=4)])
    served = np.array([one["quantiles"]["0.5"] for one in seen["predict"]["predictions"]])
    batch = np.array([one["mean"] for one in seen["transform"]])
    for found in (served, batch):
        assert np.abs(found - truths).sum() / truths.sum() < 0.1
    assert [sorted(one) for one in seen["transform"]] == [["mean", "quantiles"]] * 5
