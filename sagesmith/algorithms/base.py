"""The algorithm interface: what the seventeen declare and write, and what they are given for it.

An algorithm *declares* its names, channels, metrics and hyperparameters, and *writes* `train`, `infer`, `save` and
`load`. From that follow: the constructor and its checks, scikit-learn's manners (`fit`, `predict`, `get_params`,
`set_params`, `clone`: estimator.py), the container's `train` and `serve`, the command line, and the tables in the
docs. The reasons for this cut, tried on k-means, DeepAR and Image Classification, are in docs/decisions/0002.

An algorithm module imports its heavy libraries (xgboost, torch, faiss, numba, pyarrow) inside functions: listing the
algorithms must take a moment.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sagesmith.algorithms.declarations import FILES, ChannelSpec, Metric, Request, RequestError, Response, Role
from sagesmith.algorithms.estimator import Estimator
from sagesmith.algorithms.hyperparameters import REQUIRED, HyperparameterError
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel


class Algorithm(Estimator):
    """One of SageMaker's built-in algorithms. Subclasses are found by their file in this folder (see `registry`)."""

    # -- declared by the subclass ------------------------------------------------------------------------------
    name: ClassVar[str] = ""  # the word on the command line: "xgboost", "kmeans"
    images: ClassVar[tuple[str, ...]] = ()  # repository names of its container images, SageMaker's first
    role: ClassVar[Role] = "other"
    framework: ClassVar[bool] = False  # its image is a framework's (XGBoost): other log lines; takes a user's script
    dimension: ClassVar[str] = ""  # what `#metrics` lines call the algorithm; "" = its name
    whole_percents: ClassVar[bool] = False  # `#progress_metric` says `6 %`, rounded down, where others say `6.7 %`
    channels: ClassVar[tuple[ChannelSpec, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()
    accepts: ClassVar[tuple[str, ...]] = ()  # content types of requests
    returns: ClassVar[tuple[str, ...]] = ()  # content types of responses, the default first
    answer_key: ClassVar[str] = "predictions"  # top key of the JSON response
    distributed: ClassVar[bool] = False  # several hosts may train one model
    incremental: ClassVar[bool] = False  # takes a `model` channel
    example: ClassVar[Mapping[str, Any]] = {}  # small hyperparameters for the conformance kit and the docs
    exceptions: ClassVar[
        Mapping[str, str]
    ] = {}  # check of testing.check_algorithm or scikit-learn → why it cannot hold

    # -- written by the subclass -------------------------------------------------------------------------------
    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        """Learns from `channels["train"]` (and others), leaving what it learnt in attributes that end in `_`.

        Called with validated hyperparameters on every host of the gang; never writes to a channel's files, which may
        be the objects themselves (FastFile). Raises DataError or ValueError for data that cannot be trained on;
        whatever else it raises is reported as an algorithm error.
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

    def respond(self, request: Request) -> Response:
        """Answers one request of a served model. The default reads rows, calls `infer` and writes its fields.

        Override it where the protocol differs: requests with configuration (DeepAR), pictures (vision).

        Raises:
            RequestError: with the status that the container must answer.
        """
        from sagesmith.algorithms.responding import respond_with_rows

        return respond_with_rows(self, request)

    @classmethod
    def warm_up(cls) -> None:
        """Called once, early, in a process that does nothing but train or serve this algorithm: to load libraries.

        Returns at once; loading may go on in a thread. The default does nothing.
        """

    # -- given -------------------------------------------------------------------------------------------------
    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> Self:
        """An instance from SageMaker's map of strings, all of it checked; its attributes have their declared types.

        Raises:
            HyperparameterError: unknown key, missing, unreadable or out of range.
        """
        by_name = {name: p for p in cls.hyperparameters.values() for name in (p.name, *p.aliases)}
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name not in by_name:
                raise HyperparameterError(cls.unknown_hyperparameter(name))
            attribute = by_name[name].attribute
            if attribute in given:
                raise HyperparameterError(f"Hyperparameter {by_name[name].name}: given twice, the second as {name}")
            given[attribute] = by_name[name].parse(value)
        algorithm = cls(**given)
        algorithm.validate()
        return algorithm

    @classmethod
    def unknown_hyperparameter(cls, name: str) -> str:
        """The failure text for a key that the algorithm lacks, as SageMaker's first-party images word it."""
        return f"Additional properties are not allowed ({name!r} was unexpected)"

    @classmethod
    def specification(cls) -> dict[str, Any]:
        """The declarations as JSON: one entry of `sagesmith algorithms --json`."""
        return {
            "name": cls.name,
            "class": f"{cls.__module__}:{cls.__qualname__}",
            "images": list(cls.images),
            "role": cls.role,
            "framework": cls.framework,
            "description": inspect.cleandoc(cls.__doc__ or "").split("\n", 1)[0],
            "channels": [_listed(vars(channel)) for channel in cls.channels],
            "metrics": [dict(vars(metric)) for metric in cls.metrics],
            "hyperparameters": [p.specification() for p in cls.hyperparameters.values()],
            "accepts": list(cls.accepts),
            "returns": list(cls.returns),
            "distributed": cls.distributed,
            "incremental": cls.incremental,
        }


class Streaming(Algorithm):
    """An algorithm with a small mergeable state: one pass updates it, hosts merge theirs, `finish` makes the model.

    Writes `begin`, `update`, `merge`, `state` and `finish` instead of `train`. Fitting arrays, reading a channel in
    bounded memory, a shard per host and incremental training are then this one `train`.
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

    def evaluate(self, channels: Mapping[str, Channel], run: Run, epoch: int | None) -> None:
        """Logs the metrics of a pass (`epoch` counts from 0), and of the finished model (None)."""

    def epochs(self) -> int:
        """Passes over the data."""
        return 1

    def batches(self, channel: Channel) -> Iterable[Batch]:
        """One pass over the channel, in batches of one update each."""
        return channel.batches()

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        self.begin(run)
        for epoch in range(self.epochs()):
            started, rows = time.monotonic(), 0
            for batch in self.batches(channels["train"]):
                self.update(batch)
                rows += len(batch)
                if run.stopping:
                    break
            stopping = self._meet(run)
            self.evaluate(channels, run, epoch)
            run.progress(epoch + 1, self.epochs(), rows / max(1e-9, time.monotonic() - started))
            if stopping:
                break
        self.finish(run)
        self.evaluate(channels, run, None)

    def _meet(self, run: Run) -> bool:
        """Merges the states of all hosts, and tells whether one of them was asked to stop: then all do."""
        if len(run.hosts) == 1:
            return run.stopping
        parts = run.gather(bytes([run.stopping]) + self.state())
        self.merge(part[1:] for part in parts)
        return any(part[0] for part in parts)


def not_rows(examples: str) -> dict[str, str]:
    """The `exceptions` of an algorithm whose examples are no rows of numbers; its own contract test checks the same."""
    checks = (
        "check_metric_regexes", "check_kinds_of_arrays", "check_determinism", "check_predict_is_pure",
        "check_refit_forgets", "check_save_and_load", "check_unreadable_model", "check_responses", "check_bad_requests",
    )  # fmt: skip
    reason = f"examples are {examples}, not rows of numbers; test_*_contract.py of the algorithm checks it on them"
    return dict.fromkeys(checks, reason)


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


__all__ = [
    "FILES",
    "REQUIRED",
    "Algorithm",
    "ChannelSpec",
    "HyperparameterError",
    "Metric",
    "Request",
    "RequestError",
    "Response",
    "Role",
    "Streaming",
]
