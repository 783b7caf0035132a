"""The model's files: `xgboost-model` in xgboost's own UBJSON (its JSON is read as well); pickles are refused.

Besides xgboost's content a file of ours carries one booster attribute, `sagesmith`, with the classes, column names and
hyperparameters as JSON: xgboost and SageMaker's container read such a file like any other.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xgboost

MODEL = "xgboost-model"
_ATTRIBUTE = "sagesmith"


def save(
    boosters: Sequence[xgboost.Booster],
    folder: Path,
    classes: np.ndarray | None,
    names: np.ndarray | None,
    hyperparameters: Mapping[str, Any],
) -> None:
    """Writes `xgboost-model`, or `xgboost-model-0` and so on for several; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    ours: dict[str, Any] = {"hyperparameters": json.loads(json.dumps(dict(hyperparameters), default=_plain))}
    if classes is not None and not np.array_equal(classes, np.arange(len(classes))):
        ours["classes"] = classes.tolist()
    if names is not None:
        ours["feature_names"] = list(names)
    for number, booster in enumerate(boosters):
        booster.set_attr(**{_ATTRIBUTE: json.dumps(ours)})
        write(booster, folder / (MODEL if len(boosters) == 1 else f"{MODEL}-{number}"))


def write(booster: xgboost.Booster, path: Path) -> None:
    """Writes one booster durably under a temporary name, then renames it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(booster.save_raw("ubj"))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(folder: Path) -> tuple[list[xgboost.Booster], dict[str, Any]]:
    """The boosters of a model folder and what our attribute says of them.

    Every file whose name has no leading dot belongs to the ensemble, unless the environment variable
    SAGEMAKER_INFERENCE_ENSEMBLE is not "true": then only the first.

    Raises:
        ValueError: no file, or one that is no xgboost model, naming it.
    """
    files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise ValueError(f"{folder} holds no model file; expected {MODEL}")
    if os.environ.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true").lower() != "true":
        files = files[:1]
    boosters = [read(path) for path in files]
    widths = {booster.num_features() for booster in boosters}
    if len(widths) > 1:
        raise ValueError(f"the models in {folder} differ in their number of features: {sorted(widths)}")
    attribute = boosters[0].attr(_ATTRIBUTE)
    return boosters, json.loads(attribute) if attribute else {}


def read(path: Path) -> xgboost.Booster:
    """One booster.

    Raises:
        ValueError: the file is a pickle or no model that xgboost can read.
    """
    import xgboost

    content = path.read_bytes()
    if content[:1] == b"\x80" or content.startswith(b"ccopy_reg"):
        raise ValueError(
            f"{path} is a Python pickle, which may run any code and is not loaded; load it where you trust it and "
            "write it with Booster.save_model"
        )
    if content[:1] != b"{":
        raise ValueError(f"{path} is no XGBoost model in UBJSON or JSON; xgboost 1.6 to 3.0 converts older ones")
    try:
        return xgboost.Booster(model_file=bytearray(content))
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no XGBoost model that can be read: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """xgboost's message without time, source file and C++ stack trace."""
    text = str(error).strip().split("\nStack trace")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return re.sub(r"^\[\d+:\d+:\d+\] \S+: ", "", line)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
