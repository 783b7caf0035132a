"""The algorithms, found by their files: every module of this folder that defines an `Algorithm` with a `name`.

    from sagesmith.algorithms import XGBoost, by_image, by_name

Importing this package, or listing what is in it, imports no xgboost, torch or faiss: algorithm modules import their
libraries inside the functions that use them. Packages elsewhere add theirs under the entry point group
`sagesmith.algorithms` (`word = "package.module:Class"`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from sagesmith.algorithms.base import Algorithm

# The interface itself and what algorithms share: modules here that are no algorithm and need not be looked into.
_INTERFACE = frozenset(
    {
        "affine",
        "arrays",
        "backbones",
        "base",
        "blas",
        "checkpoints",
        "counts",
        "declarations",
        "estimator",
        "first_party",
        "hyperparameters",
        "images",
        "lanes",
        "lanes_compiled",
        "nets",
        "parallel",
        "replicas",
        "responding",
        "run",
        "scikit",
    }
)


def modules() -> list[str]:
    """The names of the modules in this folder that may hold an algorithm, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_") and name not in _INTERFACE)


@functools.cache
def registry() -> dict[str, type[Algorithm]]:
    """Every algorithm by its name: this folder's, then those of installed entry points.

    Raises:
        ValueError: two algorithms with one name.
    """
    found: dict[str, type[Algorithm]] = {}
    for module in modules():
        for algorithm in _defined_in(importlib.import_module(f"{__name__}.{module}")):
            _add(found, algorithm)
    for entry in importlib.metadata.entry_points(group="sagesmith.algorithms"):
        _add(found, entry.load())
    return found


def by_name(name: str) -> type[Algorithm]:
    """The algorithm called `name` ("xgboost").

    Raises:
        LookupError: there is none; names those that exist.
    """
    known = registry()
    if name not in known:
        raise LookupError(f"there is no algorithm {name!r}; there are: {', '.join(sorted(known))}")
    return known[name]


def by_image(repository: str) -> type[Algorithm]:
    """The algorithm whose container image has this repository name ("sagemaker-xgboost").

    Raises:
        LookupError: there is none; names those that exist.
    """
    images = {image: algorithm for algorithm in registry().values() for image in algorithm.images}
    if repository not in images:
        raise LookupError(f"no algorithm has an image {repository!r}; there are: {', '.join(sorted(images))}")
    return images[repository]


def specifications() -> list[dict[str, Any]]:
    """What `python -m sagesmith.algorithms` prints: the declarations of every algorithm, JSON-serialisable."""
    return [algorithm.specification() for _, algorithm in sorted(registry().items())]


def _add(found: dict[str, type[Algorithm]], algorithm: type[Algorithm]) -> None:
    if algorithm.name in found:
        raise ValueError(f"{algorithm!r} and {found[algorithm.name]!r} are both named {algorithm.name!r}")
    found[algorithm.name] = algorithm


def _defined_in(module: ModuleType) -> list[type[Algorithm]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Algorithm)
        and value.__module__.startswith(module.__name__)
        and "name" in vars(value)
    ]


def __getattr__(name: str) -> Any:
    """A class by its own name, importing one file where the file is named like the class (KMeans: kmeans.py).

    Not a module of this folder: Python asks here first when it is to import one (`from sagesmith.algorithms import
    counts`), and whoever asks may be an algorithm's own module, which a registry made now would lack for good.
    """
    if name.startswith("_") or name in _INTERFACE or name in modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in modules():
        if module.replace("_", "") == name.lower():
            found = getattr(importlib.import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                return found
    for algorithm in registry().values():
        if algorithm.__name__ == name:
            return algorithm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(algorithm.__name__ for algorithm in registry().values())})
