"""PCA by the SageMaker Python SDK v2's own estimator class, run with the SDK's interpreter; writes JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sagemaker
import sdk2_clock  # noqa: F401  shortens the SDK's waits
from sagemaker import PCA

ROLE = "arn:aws:iam::123456789012:role/service-role/SageMakerRole"


def main(folder: Path) -> dict[str, Any]:
    """record_set, fit on two hosts, deploy, predict, delete."""
    rows = np.loadtxt(folder / "rows.csv", delimiter=",", dtype=np.float32)
    session = sagemaker.Session()
    seen: dict[str, Any] = {}
    for name, settings in (("regular", {"subtract_mean": True}), ("randomized", {"extra_components": 2})):
        estimator = PCA(
            ROLE, 2, "ml.m5.large", num_components=3, algorithm_mode=name, sagemaker_session=session,
            base_job_name=f"sdk2-pca-{name}", **settings,
        )  # fmt: skip
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            estimator.fit(estimator.record_set(rows), logs="All")
        seen[name] = {"log": printed.getvalue(), "hyperparameters": estimator.hyperparameters()}
        seen[name]["model_data"] = estimator.model_data
        if name == "regular":
            predictor = estimator.deploy(1, "ml.m5.large", endpoint_name="sdk2-pca")
            records = predictor.predict(rows[:4])
            seen["projections"] = [list(r.label["projection"].float32_tensor.values) for r in records]
            predictor.delete_model()
            predictor.delete_endpoint()
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str))
