"""compiled: numba's compiler with a cache on disk, and when it is worth waking."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

HOW = {"nogil": True, "error_model": "numpy", "boundscheck": False}
WORTH_LOADING = 16 << 20  # bytes of text that plain Python reads in the time that numba takes to import
WORTH_CALLING = 32 << 10  # bytes below which plain Python is as fast, once numba is there


def worthwhile(size: int, loading: int = WORTH_LOADING) -> bool:
    """Whether `size` bytes are read sooner by compiled code; `loading` says when numba is worth its import."""
    return size >= (WORTH_CALLING if "numba" in sys.modules else loading)


def compiled(function: Function, **further: Any) -> Function:
    """Machine code of a function, without the GIL; kept beside the source, or in memory where no folder is writable.

    `further` options are numba's, e.g. `fastmath={"contract", "reassoc"}`, without which sums are not vectorised.
    """
    import numba

    try:
        return numba.njit(cache=True, **HOW, **further)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(**HOW, **further)(function)  # type: ignore[no-any-return]


def inlined(function: Function, **further: Any) -> Function:
    """A compiled function without a life of its own: its code goes into its callers, where a call would cost more.

    `further` options as for `compiled`: those of its callers do not reach into it.
    """
    import numba

    return numba.njit(forceinline=True, **HOW, **further)(function)  # type: ignore[no-any-return]
