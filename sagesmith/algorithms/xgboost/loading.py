"""Loading the xgboost library in a job's or an endpoint's own process: beside other work, and without scikit-learn."""

from __future__ import annotations

import contextlib
import sys
import threading


def load_beside() -> threading.Thread:
    """Starts to import xgboost in a thread; whoever imports it meanwhile waits for that import, or meets its error."""

    def quietly() -> None:
        with contextlib.suppress(ImportError):
            load()

    # No daemon: a process that ends early must not tear the interpreter down under a library being loaded.
    thread = threading.Thread(target=quietly, name="loading xgboost")
    thread.start()
    return thread


def load() -> None:
    """Imports xgboost as if scikit-learn were not installed, if neither is there yet.

    Where scikit-learn is found, xgboost imports it for the base classes of `XGBClassifier` and its kin: 0.6 s of the
    0.7 s that the import takes. Nothing in this package uses those. In a process that is not ours alone they must keep
    working, so only containers call this.
    """
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Python's own way to say: there is no such module
    try:
        import xgboost  # noqa: F401
    finally:
        if sys.modules.get("sklearn", ...) is None:
            del sys.modules["sklearn"]
