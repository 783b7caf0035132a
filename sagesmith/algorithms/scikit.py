"""What scikit-learn's tools ask of an estimator: its tags and its error for a model not fitted yet.

scikit-learn is imported only when one of its tools has asked, which means that it is there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagesmith.algorithms.estimator import Estimator


def tags(algorithm: Estimator) -> Any:
    """`sklearn.utils.Tags` for an algorithm, from its role."""
    from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags, TransformerTags

    role = algorithm.task
    supervised = role in ("classifier", "regressor")
    known = role if role in ("classifier", "regressor", "clusterer", "outlier_detector", "transformer") else None
    return Tags(
        estimator_type=known,
        target_tags=TargetTags(required=supervised),
        transformer_tags=TransformerTags() if hasattr(algorithm, "transform") else None,
        classifier_tags=ClassifierTags(multi_class=algorithm.takes_many_classes) if role == "classifier" else None,
        regressor_tags=RegressorTags() if role == "regressor" else None,
        input_tags=InputTags(
            sparse=algorithm.takes_sparse,
            allow_nan=algorithm.takes_missing,
            positive_only=not algorithm.takes_negative,
        ),
    )


class NotFittedError(ValueError, AttributeError):
    """A model was asked before `fit` or `load`; scikit-learn's error of this name where scikit-learn is loaded."""


def not_fitted(algorithm: Estimator) -> Exception:
    """The error for a model that has learnt nothing yet."""
    message = f"This {type(algorithm).__name__} instance is not fitted yet: call fit or load first."
    if "sklearn" not in sys.modules:
        return NotFittedError(message)
    from sklearn.exceptions import NotFittedError as Theirs

    error: Exception = Theirs(message)
    return error


def accuracy(truth: Any, predicted: Any, weight: Any = None) -> float:
    """The (weighted) share of rows predicted right."""
    import numpy as np

    return float(np.average(np.asarray(truth) == np.asarray(predicted), weights=weight))


def r2(truth: Any, predicted: Any, weight: Any = None) -> float:
    """The (weighted) coefficient of determination; 1 for a perfect fit of a constant target, else 0."""
    import numpy as np

    truth, predicted = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    residual = np.average((truth - predicted) ** 2, weights=weight)
    spread = np.average((truth - np.average(truth, weights=weight)) ** 2, weights=weight)
    if spread == 0:
        return 1.0 if residual == 0 else 0.0
    return float(1 - residual / spread)
