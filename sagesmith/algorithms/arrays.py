"""What Python callers hand to `fit` and `predict`, checked, with errors in scikit-learn's words."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from sagesmith.formats.numbers import all_finite

PIECE = 65_536  # entries that are looked at together


def checked_features(X: Any, owner: str, missing: bool = True, values: bool = True) -> Any:
    """`X` as something a Channel takes: frames and sparse matrices as they are, the rest as a 2-d array.

    Without `values`, its form alone is looked at, which takes next to no time.

    Raises:
        ValueError: not two dimensions, no rows, no columns, a sparse matrix with indices beyond its shape, complex
            numbers, infinities, or NaN unless `missing`.
        TypeError: values that are no numbers.
    """
    if getattr(X, "dtype", None) is not None and np.dtype(X.dtype if _is_numpy(X.dtype) else object).kind == "c":
        raise ValueError(f"Complex data not supported\n{X}\n")
    if hasattr(X, "columns") or hasattr(X, "tocsr"):
        _check_shape(X.shape, owner)
        if hasattr(X, "check_format"):  # scipy takes indices beyond the columns unseen; compiled loops must not
            X.check_format(full_check=True)
        if values and hasattr(X, "tocsr"):
            _check_finite(X.tocsr().data, owner, missing)
        return X
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead:\narray={array}.\nReshape your data either using "
            "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains a single "
            "sample."
        )
    if array.ndim > 2:
        raise ValueError(f"Found array with dim {array.ndim}, while dim <= 2 is required by {owner}.")
    _check_shape(array.shape, owner)
    array = _numeric(array)
    if values:
        _check_finite(array, owner, missing)
    return array


def checked_target(y: Any, rows: int, owner: str) -> np.ndarray:
    """The target as a vector of `rows` entries.

    Raises:
        ValueError: another length or shape, or values that are missing or infinite.
    """
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        warnings.warn(_column_vector(), stacklevel=4)
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {array.shape} instead.")
    if len(array) != rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows}, {len(array)}]")
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"Input y contains NaN or infinity, which {owner} does not accept.")
    return array


def checked_weight(weight: Any, rows: int) -> np.ndarray | None:
    """Sample weights as float32; a number means the same weight for all.

    Raises:
        ValueError: another length or shape, or a negative or infinite weight.
    """
    if weight is None:
        return None
    array = np.asarray(weight, dtype=np.float32)
    if array.ndim == 0:
        array = np.full(rows, array)
    if array.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got an array of shape {array.shape}")
    if len(array) != rows:
        raise ValueError(f"sample_weight.shape == {array.shape}, expected ({rows},)!")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    if not array.any():
        raise ValueError("sample_weight: the weights of all rows are zero")
    return array


def classes_of(y: np.ndarray, number: int | None, owner: str) -> np.ndarray:
    """The classes of a target.

    With `number` given, labels that are 0 to number - 1 already keep their meaning even where some do not occur.

    Raises:
        ValueError: a continuous target, only one class, or another count of classes than `number`.
    """
    if not is_whole(y):
        raise ValueError("Unknown label type: continuous. Maybe you are trying to fit a classifier on real numbers.")
    if number is not None and y.dtype.kind in "iufb" and y.min() >= 0 and y.max() < number:
        return np.arange(number).astype(y.dtype)
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"{owner} can't train when only one class is present: {classes[0]!r}")
    if number is not None and len(classes) != number:
        raise ValueError(
            f"Only binary classification is supported. The type of the target is multiclass: {len(classes)} classes."
            if number == 2
            else f"{owner} was told of {number} classes, the target has {len(classes)}"
        )
    return np.asarray(classes)


def is_whole(y: np.ndarray) -> bool:
    """Whether a target holds no fractions. In pieces: fresh memory for large arrays takes longer than the look."""
    if y.dtype.kind != "f":
        return True
    pieces = (y[start : start + PIECE] for start in range(0, len(y), PIECE))
    return not any((piece != np.floor(piece)).any() for piece in pieces)


def feature_names(X: Any) -> np.ndarray | None:
    """The column names of a frame when all are strings, else None.

    Raises:
        TypeError: some are strings and some are not.
    """
    columns = getattr(X, "columns", None)
    if columns is None:
        return None
    names = list(columns)
    strings = sum(isinstance(name, str) for name in names)
    if 0 < strings < len(names):
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has mixed types."
        )
    return np.asarray(names, dtype=object) if names and strings == len(names) else None


def check_names(seen: np.ndarray | None, given: np.ndarray | None, owner: str) -> None:
    """Compares the column names of a frame with those seen in `fit`, as scikit-learn does.

    Raises:
        ValueError: other names or another order.
    """
    if seen is None and given is not None:
        warnings.warn(f"X has feature names, but {owner} was fitted without feature names", stacklevel=4)
    elif seen is not None and given is None:
        warnings.warn(f"X does not have valid feature names, but {owner} was fitted with feature names", stacklevel=4)
    elif seen is not None and given is not None and list(seen) != list(given):
        raise ValueError(_names_differ(list(seen), list(given)))


def _names_differ(seen: list[str], given: list[str]) -> str:
    message = "The feature names should match those that were passed during fit.\n"
    unexpected, missing = sorted(set(given) - set(seen)), sorted(set(seen) - set(given))
    if unexpected:
        message += "Feature names unseen at fit time:\n" + "".join(f"- {name}\n" for name in unexpected[:5])
    if missing:
        message += "Feature names seen at fit time, yet now missing:\n" + "".join(f"- {name}\n" for name in missing[:5])
    if not unexpected and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    return message


def _numeric(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "biuf":
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        if array.dtype.kind == "O":
            raise TypeError(f"argument must be a string or a number: {error}") from None
        raise ValueError(f"could not convert string to float: {error}") from None


def _check_shape(shape: tuple[int, ...], owner: str) -> None:
    if shape[0] == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required by {owner}.")
    if shape[1] == 0:
        raise ValueError(f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required by {owner}.")


def _check_finite(values: np.ndarray, owner: str, missing: bool) -> None:
    if values.dtype.kind != "f" or all_finite(values):
        return
    if np.isinf(values).any():
        raise ValueError(f"Input X contains infinity, which {owner} does not accept.")
    if not missing:
        raise ValueError(f"Input X contains NaN, which {owner} does not accept.")


def _is_numpy(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype)


def _column_vector() -> Warning:
    text = (
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples,), for "
        "example using ravel()."
    )
    try:
        from sklearn.exceptions import DataConversionWarning
    except ImportError:
        return UserWarning(text)
    warning: Warning = DataConversionWarning(text)
    return warning
