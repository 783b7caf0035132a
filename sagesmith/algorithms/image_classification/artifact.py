"""artifact: a model's files, named like those of SageMaker's.

image-classification-0007.params     the weights of the seventh epoch: npz, not MXNet's format, never a pickle
image-classification-symbol.json     what the network is: depth, shape, classes; which .params is the model
model-shapes.json                    the name and shape of what the network reads
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.image_classification.settings import shape_of

NAME = "image-classification"
SYMBOL, SHAPES = f"{NAME}-symbol.json", "model-shapes.json"
VERSION = 1
PARAMS = re.compile(rf"{NAME}-(\d{{4,}})\.params")
SAME = ("num_layers", "image_shape", "num_classes")  # which training may go on from a model of


def params_name(number: int) -> str:
    """`image-classification-0007.params`."""
    return f"{NAME}-{number:04d}.params"


def number_of(name: str) -> int:
    """7 of `image-classification-0007.params`."""
    return int(name.rpartition("-")[2].removesuffix(".params"))


class Kept:
    """The weights that shall be in the archive, by the number of their epoch, from 1.

    In a job they are files of the model folder at once, as in SageMaker; without one they wait here for `save`.

    Args:
        folder: of the model; None: there is none yet.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._passing: int | None = None  # kept until a better one comes
        self._arrays: dict[int, Mapping[str, np.ndarray]] = {}

    def keep(self, number: int, weights: Mapping[str, np.ndarray], passing: bool) -> Path | None:
        """Keeps weights; those that were `passing` go when others come. Returns the file, where there is one.

        What is kept is copied.
        """
        if passing or self._passing == number:
            self._forget(self._passing)
            self._passing = number if passing else None
        if self._folder is None:
            self._arrays[number] = {name: array.copy() for name, array in weights.items()}
            return None
        return place(self._folder, number, weights)

    def _forget(self, number: int | None) -> None:
        if number is None:
            return
        self._arrays.pop(number, None)
        if self._folder is not None:
            (self._folder / params_name(number)).unlink(missing_ok=True)

    @property
    def arrays(self) -> Mapping[int, Mapping[str, np.ndarray]]:
        return self._arrays


def place(folder: Path, number: int, weights: Mapping[str, np.ndarray]) -> Path:
    """Writes the file of an epoch, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / params_name(number)
    partial = path.with_name(f".{path.name}.sagemaker-ignore")
    write_params(partial, weights)
    return partial.replace(path)


def write_params(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    content: Any = dict(weights)
    with path.open("wb") as file:
        np.savez(file, **content)


def read_params(path: Path) -> dict[str, np.ndarray]:
    """
    Raises:
        ValueError: no npz archive of numbers, by the file's name.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no weights that can be read: {error}") from None


def write_description(folder: Path, settings: Mapping[str, Any], names: list[Any] | None, number: int) -> None:
    """The files beside the weights. `number`: of the epoch that is the model."""
    described = {
        "algorithm": NAME,
        "version": VERSION,
        "hyperparameters": dict(settings),
        "params": params_name(number),
    }
    (folder / SYMBOL).write_text(json.dumps(described | {"classes": names}, indent=1), "utf-8")
    (folder / SHAPES).write_text(json.dumps(_shapes(settings)), "utf-8")


def _shapes(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "data", "shape": [1, *shape_of(settings["image_shape"])]}]


def read_description(folder: Path) -> dict[str, Any]:
    """What `write_description` wrote.

    Raises:
        ValueError: there is none, or another's.
    """
    path = folder / SYMBOL
    try:
        described = json.loads(path.read_text("utf-8"))
        if (described["algorithm"], described["version"]) != (NAME, VERSION):
            raise ValueError(f"it is of {described['algorithm']!r}, version {described['version']!r}")
        if not PARAMS.fullmatch(described["params"]):
            raise ValueError(f"its weights are in {described['params']!r}")
        path = folder / SHAPES
        if json.loads(path.read_text("utf-8")) != _shapes(described["hyperparameters"]):
            raise ValueError(f"it says another shape than {SYMBOL}")
        return dict(described)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} describes no {NAME} model of version {VERSION}: {error}") from None


def is_model(folder: Path) -> bool:
    return (folder / SYMBOL).is_file()


def differing(found: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What of an earlier model forbids to go on from it, in words; "" if nothing does."""
    return ", ".join(
        f"{name} is {found.get(name)} there and {settings[name]} here"
        for name in SAME
        if str(found.get(name)).replace(" ", "") != str(settings[name]).replace(" ", "")
    )
