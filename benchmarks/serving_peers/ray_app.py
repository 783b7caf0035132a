"""The same model as a Ray Serve deployment."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import ray
import xgboost
from ray import serve
from starlette.requests import Request


@serve.deployment
class Rows:
    def __init__(self, model: str) -> None:
        self.booster = xgboost.Booster(model_file=model)
        self.booster.set_param({"nthread": 1})

    async def __call__(self, request: Request) -> str:
        body = await request.body()
        row = np.array([body.split(b",")], dtype=np.float32)
        return f"{self.booster.inplace_predict(row)[0]}\n"


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Rows.bind(os.environ["MODEL"]), route_prefix="/invocations")
    while True:
        time.sleep(60)
