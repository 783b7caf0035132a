"""artifact: the files of a model, named as SageMaker's own: weights, the network's form, hyperparameters.

SageMaker's are files of MXNet, which nobody maintains; ours hold the same: arrays by name (npz, never a pickle), and
JSON.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.first_party import read_arrays

PARAMS, SYMBOL, HYPERPARAMETERS = "model_algo_1-0000.params", "model_algo_1-symbol.json", "hyperparams.json"
VERSION = 1
NETWORK = ("base_network", "num_classes", "image_shape")  # the hyperparameters that a network's form follows from


def write(folder: Path, weights: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> None:
    """Writes the three files, each of them whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{PARAMS}.partial"
    with partial.open("wb") as file:
        content: Any = weights
        np.savez(file, **content)
    os.replace(partial, folder / PARAMS)
    form = {"algorithm": "object-detection", "version": VERSION} | {name: settings[name] for name in NETWORK}
    (folder / SYMBOL).write_text(json.dumps(form, indent=1), "utf-8")
    (folder / HYPERPARAMETERS).write_text(json.dumps(dict(settings), indent=1), "utf-8")


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The weights and hyperparameters that `write` wrote.

    Raises:
        ValueError: naming the file that cannot be read, or that is of another algorithm or version.
    """
    path = folder / SYMBOL
    try:
        form = json.loads(path.read_text("utf-8"))
        if (form["algorithm"], form["version"]) != ("object-detection", VERSION):
            raise ValueError(f"it describes {form['algorithm']!r}, version {form['version']!r}")
        path = folder / HYPERPARAMETERS
        settings = json.loads(path.read_text("utf-8"))
        if {name: settings[name] for name in NETWORK} != {name: form[name] for name in NETWORK}:
            raise ValueError(f"it differs from {SYMBOL}")
        path = folder / PARAMS
        return read_arrays(path), dict(settings)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no object-detection model: {error}") from None


def is_model(folder: Path) -> bool:
    """Whether a folder holds an earlier model, rather than published weights of a base network."""
    return (folder / PARAMS).is_file()
