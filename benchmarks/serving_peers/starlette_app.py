"""A bare Starlette app over the same model: the least that a Python web framework costs."""

from __future__ import annotations

import os

import numpy as np
import xgboost
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

booster = xgboost.Booster(model_file=os.environ["MODEL"])
booster.set_param({"nthread": 1})


async def invoke(request: Request) -> Response:
    body = await request.body()
    row = np.array([body.split(b",")], dtype=np.float32)
    return Response(f"{booster.inplace_predict(row)[0]}\n", media_type="text/csv")


app = Starlette(routes=[Route("/invocations", invoke, methods=["POST"])])
