"""Floor 3: the rooms. One module per AWS service, named like botocore's; `sagemaker` is a folder of rooms."""

from __future__ import annotations

import functools
import importlib
import pkgutil


@functools.cache
def load_rooms() -> tuple[str, ...]:
    """Imports every module below this folder, which registers its operations and machines; the names of all of them."""
    found = pkgutil.walk_packages(__path__, prefix=f"{__name__}.")
    return tuple(sorted(importlib.import_module(module.name).__name__ for module in found))
