"""Arrays in: what users hand to `fit` and `predict` (numpy, lists, scipy sparse, pandas, polars) as a Batch.

Messages follow scikit-learn's wording, since people search for it and its own checks look for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.batch import Batch
from sagesmith.formats.numbers import all_finite


def batch_of(features: Any, label: Any = None, weight: Any = None, group: Any = None, checked: bool = False) -> Batch:
    """A batch in float32; group in int64. NaN stays (a missing value); what is float32 already is not copied.

    `checked`: dense features that are float32 already are not searched for infinity.

    Raises:
        ValueError: not two-dimensional, empty, complex, infinite, or lengths that differ.
        TypeError: cells that are no numbers at all (dicts, None where NumPy refuses it).
    """
    matrix = _sparse(features) if _is_sparse(features) else _dense(features, checked)
    rows, columns = matrix.shape
    if rows == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape={matrix.shape}) while a minimum of 1 is required.")
    if columns == 0:
        raise ValueError(f"Found array with 0 feature(s) (shape={matrix.shape}) while a minimum of 1 is required.")
    return Batch(
        matrix,
        _label(label, rows),
        _column(weight, rows, "weight", np.float32),
        _column(group, rows, "group", np.int64),
    )


def _is_sparse(features: Any) -> bool:
    return hasattr(features, "tocsr") and hasattr(features, "nnz")


def _sparse(features: Any) -> Any:
    from scipy import sparse

    if features.ndim != 2:
        raise ValueError(f"Expected 2D array, got {features.ndim}D sparse array instead.")
    if features.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{features!r}\n")
    matrix = sparse.csr_matrix(features)
    matrix = sparse.csr_matrix((_to_float32(matrix.data, "X"), matrix.indices, matrix.indptr), shape=matrix.shape)
    if not matrix.has_canonical_format:
        if np.shares_memory(matrix.indices, getattr(features, "indices", matrix.indptr)):
            matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def _dense(features: Any, checked: bool) -> np.ndarray:
    array = _frame(features) if hasattr(features, "columns") and hasattr(features, "dtypes") else _array(features)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.ndim == 0:
        raise ValueError(f"Expected 2D array, got scalar array instead:\narray={array}.\n{_RESHAPE}")
    if array.ndim == 1:
        raise ValueError(f"Expected 2D array, got 1D array instead:\narray={array}.\n{_RESHAPE}")
    if array.ndim > 2:
        raise ValueError(f"Found array with dim {array.ndim}, while dim <= 2 is required.")
    known = checked and array.dtype == np.float32
    return np.ascontiguousarray(array if known else _to_float32(array, "X"))


_RESHAPE = (
    "Reshape your data either using array.reshape(-1, 1) if your data has a single feature or "
    "array.reshape(1, -1) if it contains a single sample."
)


def _array(values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"rows of different lengths, or cells that are no numbers: {error}") from error


def _frame(frame: Any) -> np.ndarray:
    """A pandas or polars frame, column by column, so that an error can name the column."""
    matrix = np.empty((len(frame), len(frame.columns)), np.float32)
    for index, name in enumerate(frame.columns):
        column = frame.iloc[:, index] if hasattr(frame, "iloc") else frame[name]
        try:
            matrix[:, index] = _to_float32(_column_array(column), f"column {name!r}")
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {name!r} ({column.dtype}) does not hold numbers: {error}") from error
    return matrix


def _column_array(column: Any) -> np.ndarray:
    if hasattr(column, "iloc"):  # pandas
        if str(column.dtype) == "category":
            column = column.astype(column.cat.categories.dtype)
        return np.asarray(column.to_numpy(np.float64, na_value=np.nan) if _nullable(column) else column.to_numpy())
    return np.asarray(column.to_numpy())  # polars


def _nullable(column: Any) -> bool:
    return hasattr(column.dtype, "na_value") and column.dtype.kind in "iufb"


def _to_float32(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "biufO":
        array = _parsed(array, what)
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32, copy=False)
    if not all_finite(numbers) and np.isinf(numbers).any():
        raise ValueError(f"Input {what} contains infinity or a value too large for dtype('float32').")
    return numbers


def _parsed(array: np.ndarray, what: str) -> np.ndarray:
    """Text as numbers where it is such, as scikit-learn takes it; dates and the like are refused."""
    if array.dtype.kind not in "US":
        raise ValueError(f"{what} holds {array.dtype}, not numbers")
    return array.astype(np.float64)


def _label(values: Any, rows: int) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{array}\n")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise ValueError(f"y should be a 1d array, got an array of shape {array.shape} instead.")
    if len(array) != rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows}, {len(array)}]")
    numbers = np.ascontiguousarray(_to_float32(array, "y"))
    if np.isnan(numbers).any():
        raise ValueError("Input y contains NaN.")
    return numbers


def _column(values: Any, rows: int, what: str, dtype: Any) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values)
    if what == "weight" and array.ndim == 0:  # one weight for all, as scikit-learn allows
        array = np.full(rows, array)
    if array.ndim != 1:
        raise ValueError(f"{what} should be a 1d array, got an array of shape {array.shape} instead.")
    if len(array) != rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows}, {len(array)}]")
    if dtype == np.int64 and array.dtype.kind not in "iu":
        raise ValueError(f"{what} should hold whole numbers, not {array.dtype}")
    return np.ascontiguousarray(_to_float32(array, what) if dtype == np.float32 else array.astype(dtype))
