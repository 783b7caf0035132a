"""blas: one thread for each matrix product while several threads multiply.

OpenBLAS lets one product at a time have all its threads, and makes those that come meanwhile wait: two threads that
multiply small blocks side by side are twenty times slower than one. Its thread count is one number for the process, so
it is set to 1 while anything asks for it and put back after the last.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PREFIXES, _SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "")
_lock = threading.Lock()
_users = 0
_before = 1


@contextmanager
def single_threaded() -> Iterator[bool]:
    """Within it numpy's products use one thread each; False where numpy's BLAS is none that can be told."""
    controls = _controls()
    if controls is None:
        yield False
        return
    _enter(*controls)
    try:
        yield True
    finally:
        _leave(controls[1])


def _enter(get: Callable[[], int], put: Callable[[int], None]) -> None:
    global _users, _before
    with _lock:
        if _users == 0:
            _before = get()
            put(1)
        _users += 1


def _leave(put: Callable[[int], None]) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            put(_before)


@functools.cache
def _controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """How numpy's OpenBLAS tells and takes its number of threads."""
    try:
        extension = importlib.import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(str(extension.__file__))  # a name is looked up in the libraries that it is linked to too
    except (ImportError, OSError):
        return None
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            get = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
            put = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
            if get and put:
                put.argtypes, put.restype = (ctypes.c_int,), None
                return get, put
    return None
