"""Estimator: scikit-learn's manners for every algorithm, derived from its declared hyperparameters.

Constructor, `get_params`, `set_params`, `fit`, `predict`, `predict_proba`, `score`, the attributes `n_features_in_`,
`feature_names_in_` and `classes_`, and the tags that scikit-learn's tools read. scikit-learn itself is not needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sagesmith.algorithms import arrays, scikit
from sagesmith.algorithms.declarations import Role
from sagesmith.algorithms.hyperparameters import Hyperparameter, HyperparameterError, declared
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

_DESCRIBES_DATA = {"n_features_in_", "feature_names_in_", "classes_"}


class Estimator:
    """The part of `Algorithm` that a Python caller sees. Subclass `Algorithm`, not this."""

    role: ClassVar[Role] = "other"
    takes_sparse: ClassVar[bool] = True  # scipy's matrices
    takes_negative: ClassVar[bool] = True  # numbers below 0; without, features are counts
    takes_missing: ClassVar[bool] = False  # NaN among the features
    checks_values: ClassVar[bool] = False  # `train` itself refuses NaN and infinity, at no cost: `fit` need not look
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hyperparameters = declared(cls)
        if not cls.hyperparameters:
            return
        parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        for attribute, parameter in cls.hyperparameters.items():
            default = None if parameter.required else parameter.default
            parameters.append(inspect.Parameter(attribute, inspect.Parameter.KEYWORD_ONLY, default=default))

        def __init__(self: Estimator, **values: Any) -> None:
            self._store(values)

        __init__.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[method-assign,assignment]

    def _store(self, values: Mapping[str, Any]) -> None:
        given = {self._attribute(name, TypeError): value for name, value in values.items()}
        if len(given) < len(values):
            raise TypeError(f"{type(self).__name__} was given one hyperparameter under two names: {', '.join(values)}")
        for attribute, parameter in self.hyperparameters.items():
            setattr(self, attribute, given.get(attribute, None if parameter.required else parameter.default))

    @classmethod
    def _attribute(cls, name: str, error: type[Exception]) -> str:
        """The attribute for a hyperparameter's Python name or one of its aliases."""
        if name in cls.hyperparameters:
            return name
        for attribute, parameter in cls.hyperparameters.items():
            if name in parameter.aliases:
                return attribute
        allowed = ", ".join(cls.hyperparameters)
        raise error(f"Invalid parameter {name!r} for {cls.__name__}; it has: {allowed}")

    # -- hooks that Algorithm and its subclasses fill in -------------------------------------------------------
    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        raise NotImplementedError

    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        raise NotImplementedError

    def check(self) -> None:
        """Checks that need several hyperparameters at once; raises HyperparameterError. Values are parsed already."""

    def predict_from(self, fields: Mapping[str, Any]) -> Any:
        """What `predict` returns, from the fields of `infer`: the first field unless the subclass knows better."""
        return np.asarray(next(iter(fields.values())))

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """What `predict_proba` returns, (n, classes), for a classifier that can tell."""
        raise NotImplementedError

    @property
    def task(self) -> Role:
        """The role of this instance, where it hangs on a hyperparameter (XGBoost's objective)."""
        return self.role

    @property
    def takes_many_classes(self) -> bool:
        """Whether a classifier takes more than two classes."""
        return True

    @property
    def class_count(self) -> int | None:
        """The number of classes that a classifier was told of; None: as many as the labels have."""
        return None

    def channel_of(self, name: str, value: Any) -> Channel:
        """A Channel from what a Python caller passed to `fit`: one, or (X, y, weight, group) as far as given.

        Algorithms whose examples are not rows of numbers (texts, series, pictures) override this.
        """
        from sagesmith.formats.channel import Channel

        if isinstance(value, Channel):
            return value
        X, y, weight, group = (*(value if isinstance(value, tuple) else (value,)), None, None, None)[:4]
        looked = not self.checks_values
        X = arrays.checked_features(X, type(self).__name__, self.takes_missing, looked)
        arrays.check_names(getattr(self, "feature_names_in_", None), arrays.feature_names(X), type(self).__name__)
        if y is not None:
            y = arrays.checked_target(y, X.shape[0], type(self).__name__)
            y = self._codes(y) if self.task == "classifier" else y.astype(np.float32)
        return Channel.of(name, X, y, arrays.checked_weight(weight, X.shape[0]), group, checked=not looked)

    # -- given -------------------------------------------------------------------------------------------------
    def validate(self) -> None:
        """Parses and checks every hyperparameter; `fit` and the container call it before anything else.

        Raises:
            HyperparameterError: naming the hyperparameter, the value and what is allowed.
        """
        self._settings = {}
        for attribute, parameter in self.hyperparameters.items():
            value = getattr(self, attribute)
            if value is None and parameter.required:
                raise HyperparameterError(f"Missing required hyperparameter: {parameter.name}")
            self._settings[attribute] = parameter.parse(value)
        self.check()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The parsed hyperparameters by attribute: what `train` reads (the constructor's values stay as they are)."""
        if "_settings" not in vars(self):
            self.validate()
        return self._settings

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        group: Any = None,
        run: Run | None = None,
        **channels: Any,
    ) -> Self:
        """Trains on arrays (dense, scipy sparse, pandas, polars), or on a Channel, and returns self.

        Args:
            sample_weight: (n,) weights of the rows, or one for all.
            group: (n,) ids of the query that each row belongs to, rows of one query side by side (ranking).
            run: where to log, checkpoint and leave files; None: a quiet run on this host.
            channels: further channels by name, e.g. `validation=(X, y)` or a Channel.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        from sagesmith.formats.channel import Channel

        for attribute in _DESCRIBES_DATA:
            vars(self).pop(attribute, None)
        if isinstance(X, Channel):
            self.validate()
            given = {"train": X}
        else:
            self._look_at(X, y)
            self.validate()
            given = {"train": self.channel_of("train", (X, y, sample_weight, group))}
        given |= {name: self.channel_of(name, value) for name, value in channels.items() if value is not None}
        self.train(given, run or Run())
        return self

    def _look_at(self, X: Any, y: Any) -> None:
        """Learns what the arrays look like: columns, their names, classes."""
        owner = type(self).__name__
        if y is None and self.task in ("classifier", "regressor"):
            raise ValueError(f"This {owner} estimator requires y to be passed, but the target y is None.")
        X = arrays.checked_features(X, owner, values=False)  # `channel_of` looks at the values
        self.n_features_in_ = int(X.shape[1])
        names = arrays.feature_names(X)
        if names is not None:
            self.feature_names_in_ = names
        if self.task == "classifier":
            y = arrays.checked_target(y, X.shape[0], owner)
            self.classes_ = arrays.classes_of(y, self.class_count, owner)

    def _codes(self, y: np.ndarray) -> np.ndarray:
        number = len(self.classes_)
        own = y.dtype.kind in "iuf" and np.array_equal(self.classes_, np.arange(number)) and arrays.is_whole(y)
        if own and y.min() >= 0 and y.max() < number:
            return y.astype(np.float32, copy=False)
        codes = np.searchsorted(self.classes_, y)
        known = codes < len(self.classes_)
        if not (known.all() and (self.classes_[codes] == y).all()):
            strange = sorted(set(y.tolist()) - set(self.classes_.tolist()))
            raise ValueError(f"label {strange[0]!r} does not occur in the training data: {self.classes_.tolist()}")
        return codes.astype(np.float32)

    def predict(self, X: Any, **options: Any) -> Any:
        """Predictions for rows, in the manner of scikit-learn: one entry per row.

        Raises:
            ValueError: not fitted, or rows that do not fit the model.
        """
        return self.predict_from(self._fields(X, options))

    @property
    def predict_proba(self) -> Callable[..., np.ndarray]:
        """`predict_proba(X)`: the probability of every class, (n, classes). Only classifiers have it."""
        if self.task != "classifier" or type(self).probabilities_from is Estimator.probabilities_from:
            raise AttributeError(f"This {type(self).__name__} has no attribute 'predict_proba': it is no classifier")
        return self._predict_proba

    def _predict_proba(self, X: Any, **options: Any) -> np.ndarray:
        return self.probabilities_from(self._fields(X, options))

    def _fields(self, X: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        from sagesmith.formats.channel import Channel

        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        owner = type(self).__name__
        if not isinstance(X, Channel):
            arrays.check_names(getattr(self, "feature_names_in_", None), arrays.feature_names(X), owner)
            X = arrays.checked_features(X, owner, self.takes_missing)
            expected = getattr(self, "n_features_in_", None)
            if expected is not None and X.shape[1] != expected:
                raise ValueError(f"X has {X.shape[1]} features, but {owner} is expecting {expected} features as input")
            X = Channel.of("predict", X)
        return self.infer(X.read(), **options)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of a classifier, R² of a regressor.

        Raises:
            AttributeError: the algorithm is neither.
        """
        if self.task == "classifier":
            return scikit.accuracy(y, self.predict(X), sample_weight)
        if self.task == "regressor":
            return scikit.r2(y, self.predict(X), sample_weight)
        raise AttributeError(f"{type(self).__name__} has no score: it is no classifier and no regressor")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's values by name."""
        return {attribute: getattr(self, attribute) for attribute in self.hyperparameters}

    def set_params(self, **values: Any) -> Self:
        """Raises ValueError for a name that is not a hyperparameter."""
        for name, value in values.items():
            setattr(self, self._attribute(name, ValueError), value)
        vars(self).pop("_settings", None)
        return self

    def __sklearn_tags__(self) -> Any:
        return scikit.tags(self)

    def __sklearn_is_fitted__(self) -> bool:
        return any(k.endswith("_") and not k.startswith("_") and k not in _DESCRIBES_DATA for k in vars(self))

    def __repr__(self) -> str:
        shown = []
        for attribute, parameter in self.hyperparameters.items():
            value = getattr(self, attribute)
            default = None if parameter.required else parameter.default
            if value is not default and repr(value) != repr(default):
                shown.append(f"{attribute}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"
