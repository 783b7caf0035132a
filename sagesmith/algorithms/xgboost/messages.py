"""What xgboost's C++ side says (warnings; more with a higher verbosity), as lines of the run's log."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sagesmith.algorithms.run import Run

_HEAD = re.compile(r"^\[\d+:\d+:\d+\] (WARNING: |INFO: |DEBUG: )?(\S+:\d+: )?")  # time, kind, source file and line


@contextmanager
def told(run: Run, verbosity: int) -> Iterator[None]:
    """Inside, what xgboost says on this thread goes to `run.log`; afterwards as before to Python's warnings and stdout.

    `verbosity` is xgboost's: 0 silent, 1 warnings, 2 info, 3 debug. As a booster's parameter alone it would not hold
    for what is said about the data.

    The function to call is xgboost's public C one (XGBRegisterLogCallback), which holds for the calling thread; only
    the handle of the loaded library is taken from xgboost's Python module.
    """
    import xgboost
    from xgboost.core import _LIB

    def take(message: bytes) -> None:
        text = message.decode("utf-8", "replace")
        run.log("XGBoost: %s", line_of(text), level=logging.WARNING if "WARNING:" in text else logging.INFO)

    callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(take)
    _LIB.XGBRegisterLogCallback(callback)
    try:
        with xgboost.config_context(verbosity=verbosity):
            yield
    finally:
        _LIB.XGBRegisterLogCallback(_LIB.callback)


def line_of(message: str) -> str:
    """The message on one line, without xgboost's own time, kind and place in the source."""
    return " ".join(_HEAD.sub("", message).split())
