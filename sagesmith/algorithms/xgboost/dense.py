"""Predicting dense rows through xgboost's C interface, without its Python side.

`Booster.inplace_predict` spends about half of a single row's time finding out what kind of data it was given. The C
function below is public and documented (XGBoosterPredictFromDense); only the handle of the loaded library is taken
from xgboost's own module. The function makes a proxy matrix for the rows unless it is given one, which costs 21 of
then 46 microseconds; so each thread keeps one. Its result lives in memory of the calling thread, hence the copy.
"""

from __future__ import annotations

import ctypes
import json
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xgboost


class _Kept(threading.local):
    """What a thread keeps from one prediction to the next."""

    proxy: Any = None


_kept = _Kept()


def configuration(rounds: tuple[int, int]) -> bytes:
    """The settings of a prediction over boosting rounds [first, last); (0, 0) stands for all."""
    settings = {"type": 0, "training": False, "iteration_begin": rounds[0], "iteration_end": rounds[1]}
    return json.dumps({**settings, "missing": math.nan, "strict_shape": False, "cache_id": 0}).encode()


def predict(booster: xgboost.Booster, rows: np.ndarray, settings: bytes) -> np.ndarray:
    """What `booster.inplace_predict(rows)` returns, for (n, d) float32 rows in C order.

    Raises:
        xgboost.core.XGBoostError: the rows do not fit the model.
    """
    from xgboost.core import _LIB, _check_call

    described = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (rows.ctypes.data, *rows.shape)
    values = ctypes.POINTER(ctypes.c_float)()
    shape = ctypes.POINTER(ctypes.c_uint64)()
    dimensions = ctypes.c_uint64()
    _check_call(
        _LIB.XGBoosterPredictFromDense(
            booster.handle,
            described,
            settings,
            _proxy().handle,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(values),
        )
    )
    result = np.empty(tuple(shape[axis] for axis in range(dimensions.value)), np.float32)
    ctypes.memmove(result.ctypes.data, values, result.nbytes)
    return result


def _proxy() -> Any:
    """This thread's proxy matrix; between predictions it points at rows that are gone, and nobody looks at it."""
    if _kept.proxy is None:
        from xgboost.core import _ProxyDMatrix

        _kept.proxy = _ProxyDMatrix()
    return _kept.proxy
