"""The algorithm interface: what the seventeen declare and write, and what they are given for it.

An algorithm *declares* its names, channels, metrics and hyperparameters, and *writes* `train`, `infer`, `save` and
`load`. From that follow: the constructor and its checks, scikit-learn's manners (`fit`, `predict`, `get_params`,
`set_params`, `clone`), the container's `train` and `serve`, the command line, and the tables in the docs.
The reasons for this cut, tried on k-means, DeepAR and Image Classification, are in docs/decisions/0002.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from sagesmith.algorithms.hyperparameters import REQUIRED, Hyperparameter, HyperparameterError, declared
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel

Role = Literal["classifier", "regressor", "clusterer", "outlier_detector", "transformer", "forecaster", "other"]


@dataclass(frozen=True)
class ChannelSpec:
    """A channel that an algorithm reads. An empty `content_types` means that any will do."""

    name: str
    required: bool = False
    content_types: tuple[str, ...] = ()
    default: str = ""  # the content type assumed when the request names none
    modes: tuple[str, ...] = ("File", "FastFile", "Pipe")
    distributions: tuple[str, ...] = ("FullyReplicated", "ShardedByS3Key")
    label_size: int = 1  # leading label columns of CSV when the content type does not say


@dataclass(frozen=True)
class Metric:
    """A metric by AWS's name, the regular expression that finds it in the log, and the better direction."""

    name: str
    regex: str
    objective: Literal["Maximize", "Minimize", ""] = ""  # "" = cannot be tuned for


class RequestError(ValueError):
    """A request to a served model that cannot be answered; `status` is the HTTP status of the container."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One POST /invocations, or one call of a model without a server."""

    body: bytes
    content_type: str = ""
    accept: str = ""
    attributes: str = ""  # X-Amzn-SageMaker-Custom-Attributes
    environment: Mapping[str, str] = field(default_factory=dict)  # the container's: SAGEMAKER_BATCH and friends


@dataclass(frozen=True)
class Response:
    """The answer: bytes and their content type; `status` 204 for an empty one."""

    body: bytes
    content_type: str
    status: int = 200


class Algorithm:
    """One of SageMaker's built-in algorithms. Subclasses are found by their file in this folder (see `registry`)."""

    # -- declared by the subclass ------------------------------------------------------------------------------
    name: ClassVar[str] = ""  # the word on the command line: "xgboost", "kmeans"
    images: ClassVar[tuple[str, ...]] = ()  # repository names of its container images, SageMaker's first
    role: ClassVar[Role] = "other"
    framework: ClassVar[bool] = False  # its image is a framework's (XGBoost): other log lines; takes a user's script
    dimension: ClassVar[str] = ""  # what `#metrics` lines call the algorithm; "" = its name
    channels: ClassVar[tuple[ChannelSpec, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()
    accepts: ClassVar[tuple[str, ...]] = ()  # content types of requests
    returns: ClassVar[tuple[str, ...]] = ()  # content types of responses, the default first
    answer_key: ClassVar[str] = "predictions"  # top key of the JSON response
    distributed: ClassVar[bool] = False  # several hosts may train one model
    incremental: ClassVar[bool] = False  # takes a `model` channel
    example: ClassVar[Mapping[str, Any]] = {}  # small hyperparameters for the conformance kit and the docs

    # -- written by the subclass -------------------------------------------------------------------------------
    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        """Learns from `channels["train"]` (and others), leaving what it learnt in attributes that end in `_`.

        Called with validated hyperparameters on every host of the gang. Raises DataError or ValueError for data that
        cannot be trained on; whatever else it raises is reported as an algorithm error.
        """
        raise NotImplementedError

    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """The response fields by name, one entry per row: `{"score": (n,), "predicted_label": (n,)}`.

        `options` are the parameters of the Accept header (`verbose=true`) or keyword arguments of `predict`.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Writes the model as plain data files; never a pickle."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model that `save` wrote (or SageMaker, where its format is open).

        Raises:
            ValueError: the folder holds no model that can be read, naming the file.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Checks that need several hyperparameters at once; raises HyperparameterError. Values are parsed already."""

    def predict_from(self, fields: Mapping[str, Any]) -> Any:
        """What `predict` returns, from the fields of `infer`: the first field unless the subclass knows better."""
        return np.asarray(next(iter(fields.values())))

    def respond(self, request: Request) -> Response:
        """Answers one request of a served model. The default reads rows, calls `infer` and writes its fields.

        Override it where the protocol differs: requests with configuration (DeepAR), pictures (vision).

        Raises:
            RequestError: with the status that the container must answer.
        """
        from sagesmith.algorithms.responding import respond_with_rows

        return respond_with_rows(self, request)

    # -- given -------------------------------------------------------------------------------------------------
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hyperparameters = declared(cls)
        parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
        for attribute, parameter in cls.hyperparameters.items():
            default = None if parameter.required else parameter.default
            parameters.append(inspect.Parameter(attribute, inspect.Parameter.KEYWORD_ONLY, default=default))

        def __init__(self: Algorithm, **values: Any) -> None:
            self._store(values)

        __init__.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[assignment]

    def _store(self, values: dict[str, Any]) -> None:
        unknown = sorted(set(values) - set(self.hyperparameters))
        if unknown:
            allowed = ", ".join(self.hyperparameters)
            raise TypeError(f"{type(self).__name__} has no hyperparameter {unknown[0]!r}; it has: {allowed}")
        for attribute, parameter in self.hyperparameters.items():
            setattr(self, attribute, values.get(attribute, None if parameter.required else parameter.default))

    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> Self:
        """An instance from SageMaker's map of strings, all of it checked.

        Raises:
            HyperparameterError: unknown key, missing, unreadable or out of range.
        """
        by_name = {name: p for p in cls.hyperparameters.values() for name in (p.name, *p.aliases)}
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name not in by_name:
                raise HyperparameterError(cls.unknown_hyperparameter(name))
            given[by_name[name].attribute] = value
        algorithm = cls(**given)
        algorithm.validate()
        return algorithm

    @classmethod
    def unknown_hyperparameter(cls, name: str) -> str:
        """The failure text for a key that the algorithm lacks, as SageMaker's first-party images word it."""
        return f"Additional properties are not allowed ({name!r} was unexpected)"

    def validate(self) -> None:
        """Parses and checks every hyperparameter in place of `fit`'s first lines.

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
        """The parsed hyperparameters by attribute: what `train` and `check` read (constructor values stay untouched)."""
        return self._settings

    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, run: Run | None = None, **channels: Any) -> Self:
        """Trains on arrays (dense, scipy sparse, pandas, polars), or on a Channel, and returns self.

        `channels` are further channels by name, e.g. `validation=(X, y)` or a Channel.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        self.validate()
        given = {"train": Channel.of("train", X, y, sample_weight)}
        for name, value in channels.items():
            given[name] = value if isinstance(value, Channel) else Channel.of(name, *_as_tuple(value))
        self.train(given, run or Run())
        return self

    def predict(self, X: Any, **options: Any) -> Any:
        """Predictions for rows, in the manner of scikit-learn: one entry per row.

        Raises:
            ValueError: not fitted, or rows that do not fit the model.
        """
        fields = self.infer(Batch(Channel.of("predict", X).read().features), **options)
        return self.predict_from(fields)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {attribute: getattr(self, attribute) for attribute in self.hyperparameters}

    def set_params(self, **values: Any) -> Self:
        """Raises ValueError for a name that is not a hyperparameter."""
        for attribute, value in values.items():
            if attribute not in self.hyperparameters:
                allowed = ", ".join(self.hyperparameters)
                raise ValueError(f"Invalid parameter {attribute!r} for {type(self).__name__}; valid: {allowed}")
            setattr(self, attribute, value)
        return self

    def __repr__(self) -> str:
        shown = []
        for attribute, parameter in self.hyperparameters.items():
            value = getattr(self, attribute)
            if value is not (None if parameter.required else parameter.default):
                shown.append(f"{attribute}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def specification(cls) -> dict[str, Any]:
        """The declarations as JSON: one entry of `sagesmith algorithms --json`."""
        return {
            "name": cls.name,
            "class": f"{cls.__module__}:{cls.__qualname__}",
            "images": list(cls.images),
            "role": cls.role,
            "description": inspect.cleandoc(cls.__doc__ or "").split("\n", 1)[0],
            "channels": [vars(channel) for channel in cls.channels],
            "metrics": [vars(metric) for metric in cls.metrics],
            "hyperparameters": [p.specification() for p in cls.hyperparameters.values()],
            "accepts": list(cls.accepts),
            "returns": list(cls.returns),
            "distributed": cls.distributed,
            "incremental": cls.incremental,
        }


class Streaming(Algorithm):
    """An algorithm with a small mergeable state: one pass updates it, hosts merge theirs, `finish` makes the model.

    Writes `begin`, `update`, `merge`, `finish`, `state` and `restore` instead of `train`. Fitting arrays, reading a
    channel in bounded memory, a shard per host and incremental training are then this one `train`.
    Source: Liberty et al., Elastic Machine Learning Algorithms in Amazon SageMaker, SIGMOD 2020.
    """

    def begin(self, run: Run) -> None:
        """Forgets what was learnt and starts an empty state (or one from `run.initial_model`)."""
        raise NotImplementedError

    def update(self, batch: Batch) -> None:
        """Takes rows into the state. Memory does not grow with the number of rows seen."""
        raise NotImplementedError

    def merge(self, others: Iterable[bytes]) -> None:
        """Takes the states of all hosts (this one's included, in the order of hosts) in place of its own."""
        raise NotImplementedError

    def state(self) -> bytes:
        """The state as bytes (npz or safetensors), for `merge` on another host or a checkpoint."""
        raise NotImplementedError

    def finish(self, run: Run) -> None:
        """Makes the model from the state."""
        raise NotImplementedError

    def epochs(self) -> int:
        """Passes over the data."""
        return 1

    def batch_rows(self) -> int | None:
        """Rows of one update; None: as the channel likes."""
        return None

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        self.begin(run)
        for epoch in range(self.epochs()):
            for batch in channels["train"].batches(self.batch_rows()):
                self.update(batch)
                if run.stopping:
                    break
            if len(run.hosts) > 1:
                self.merge(run.gather(self.state()))
            run.progress(epoch + 1, self.epochs())
            if run.stopping:
                break
        self.finish(run)


def _as_tuple(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


__all__ = [
    "REQUIRED",
    "Algorithm",
    "ChannelSpec",
    "HyperparameterError",
    "Metric",
    "Request",
    "RequestError",
    "Response",
    "Streaming",
]
