"""The same model as a BentoML service."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import xgboost


@bentoml.service
class Rows:
    def __init__(self) -> None:
        self.booster = xgboost.Booster(model_file=os.environ["MODEL"])
        self.booster.set_param({"nthread": 1})

    @bentoml.api
    def invocations(self, row: list[float]) -> list[float]:
        return self.booster.inplace_predict(np.array([row], dtype=np.float32)).tolist()
