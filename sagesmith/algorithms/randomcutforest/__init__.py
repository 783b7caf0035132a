"""Random Cut Forest: how far a row lies from what a sample of the data looks like.

Papers: Guha, Mishra, Roy, Schrijvers, Robust Random Cut Forest Based Anomaly Detection on Streams, ICML 2016; Liu,
Ting, Zhou, Isolation Forest, ICDM 2008, for what both have in common. Followed to the letter: SageMaker's sample, cut
into consecutive blocks without shuffling, one for each tree, and the score of AWS's open library; node counts and
scores that a job of SageMaker's published come out again (tests). Left out: SageMaker's artifact, which is not public.
Beyond SageMaker: `attribute`, `suggest_threshold`, `stream`, and scikit-learn's outlier detector.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import ChannelSpec, HyperparameterError, Metric
from sagesmith.algorithms.first_party import (
    JOB_METRICS,
    ROWS,
    FirstParty,
    check_finite,
    check_labels,
    check_width,
    passes,
)
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.randomcutforest import reporting
from sagesmith.algorithms.randomcutforest.forest import Forest
from sagesmith.algorithms.randomcutforest.reservoir import Reservoir
from sagesmith.algorithms.randomcutforest.streaming import StreamingForest
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError, NoData

SCORED_FOR_THRESHOLD = 10_000  # rows of the sample
VALUES_AT_ONCE = 1 << 22  # of sparse rows, made dense to be scored


class RandomCutForest(FirstParty):
    """Anomaly scores from a forest of random cuts."""

    name = "randomcutforest"
    images = ("randomcutforest",)
    role = "outlier_detector"
    dimension = "RandomCutForest"
    answer_key = "scores"
    distributed = True
    channels = (
        ChannelSpec("train", True, ROWS, ROWS[0], distributions=("ShardedByS3Key",), label_size=0),
        ChannelSpec("test", False, ROWS, ROWS[0], distributions=("FullyReplicated",), label_size=1),
    )
    metrics = (
        *(
            Metric(f"test:{name}", rf"#quality_metric: host=\S+, test {name} <score>=(\S+)", "Maximize")
            for name in ("f1", "accuracy", "precision", "recall")
        ),
        *JOB_METRICS,
    )
    example = {"num_trees": 50, "num_samples_per_tree": 64}
    exceptions = {
        "check_parameters_default_constructible": "eval_metrics is a JSON list in SageMaker, and so is its default",
        **{
            f"check_sample_weight{name}": "rows have no weights here: sample_weight is refused"
            for name in (
                "_equivalence_on_dense_data",
                "_equivalence_on_sparse_data",
                "s_list",
                "s_not_an_array",
                "s_not_overwritten",
                "s_pandas_series",
                "s_shape",
            )
        },
    }

    feature_dim: int = hp("columns of the data", default=None, ge=1, le=10_000, inferred=True)
    num_trees: int = hp("trees", default=100, ge=50, le=1000, tunable=Tunable(50, 1000))
    num_samples_per_tree: int = hp(
        "rows given to each tree; 1 / this should be near the share of anomalies",
        default=256,
        ge=1,
        le=2048,
        tunable=Tunable(1, 2048),
    )
    eval_metrics: list[str] = hp(
        'scores of the test channel: "accuracy", "precision_recall_fscore", or both',
        default=["accuracy", "precision_recall_fscore"],
    )
    mini_batch_size: int = hp("rows that are read at a time", default=1000, ge=1)
    seed: int = hp("random seed (not in SageMaker)", default=0, ge=0, lt=2**63)
    ftp_port: int = hp(
        "taken for compatibility, without effect: nothing is sent over FTP", default=8999, name="_ftp_port"
    )

    def check(self) -> None:
        wrong = [name for name in self._settings["eval_metrics"] if name not in reporting.EVAL_METRICS]
        if wrong:
            allowed = ", ".join(reporting.EVAL_METRICS)
            raise HyperparameterError(f"Hyperparameter eval_metrics: {wrong[0]!r} is not in [{allowed}]")

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        vars(self).pop("forest_", None)
        reporting.begin(run, self.settings)
        if run.is_master:
            reporting.validate_memory(run, self.settings)
        sample = self._sample(channels["train"], run)
        if run.is_master:
            self._build(sample, run)
            if "test" in channels:
                self._test(channels["test"], run)

    # -- the sample --------------------------------------------------------------------------------------------
    def _sample(self, channel: Channel, run: Run) -> Reservoir:
        """num_trees * num_samples_per_tree rows of all hosts, or all rows where there are fewer."""
        capacity = self.settings["num_trees"] * self.settings["num_samples_per_tree"]
        reservoir = Reservoir(capacity, self._seed(run.rank))
        run.log("Sampling training data...")
        started = time.monotonic()
        for batch in passes(channel, self.settings["mini_batch_size"], self.settings["feature_dim"]):
            if batch.weight is not None:
                raise DataError("rows have weights (sample_weight), which a random cut forest does not use")
            if not reservoir.seen:
                run.log("feature_dim is correct.")
            for rows in _dense(batch):
                reservoir.add(rows)
            if run.stopping:
                break
        run.log("Sampling training data completed.")
        reporting.sampled(run, reservoir.seen, time.monotonic() - started)
        if len(run.hosts) == 1:
            return reservoir
        return Reservoir.merged(run.gather(reservoir.to_bytes()), capacity, self._seed(len(run.hosts)))

    def _seed(self, stream: int) -> int:
        """A seed for each host, and one for what follows."""
        return int(np.random.SeedSequence([self.settings["seed"], stream]).generate_state(1, np.uint64)[0])

    # -- the forest --------------------------------------------------------------------------------------------
    def _build(self, sample: Reservoir, run: Run) -> None:
        run.log("Master node: building Random Cut Forest...")
        run.log("Gathering samples...")
        rows, trees = sample.rows, self.settings["num_trees"]
        if not len(rows):
            raise NoData("the train channel holds no rows")
        run.log("%d samples gathered", len(rows))
        points = min(self.settings["num_samples_per_tree"], len(rows) // trees)
        if not points:
            points = min(self.settings["num_samples_per_tree"], len(rows))
            run.log("Fewer rows than trees: each of the %d trees is given %d of all %d rows", trees, points, len(rows))
        run.log("Building Random Cut Forest...")
        started = time.monotonic()
        self.forest_ = Forest.grown(rows, trees, points, self._seed(0), run.threads)
        run.metrics("training", {"fit_model.time": 1000 * (time.monotonic() - started)})
        run.log("Random Cut Forest built: \n\n%s", reporting.forest_info(self.forest_))
        every = -(-len(rows) // SCORED_FOR_THRESHOLD)
        self.threshold_ = three_sigma(self.forest_.score(rows[::every], run.threads))
        run.log("Master node: Serializing the RandomCutForest model")
        run.metrics("training", {"model.bytes": self.forest_.nbytes})

    def _test(self, channel: Channel, run: Run) -> None:
        """Scores above mean + 3 standard deviations of the test scores are called anomalies, as SageMaker does."""
        scores, labels, seen = [], [], 0
        for batch in passes(channel, self.settings["mini_batch_size"], self.forest_.dim):
            labels.append(check_labels(batch, "channel 'test'", (0, 1), seen))
            scores.append(self._scores(batch, run.threads))
            seen += len(batch)
        if not seen:
            raise NoData("the test channel holds no rows")
        found = np.concatenate(scores)
        reporting.test_scores(
            run, found > three_sigma(found), np.concatenate(labels) > 0, self.settings["eval_metrics"]
        )

    # -- scores ------------------------------------------------------------------------------------------------
    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`score`: the higher, the more abnormal, (n,)."""
        check_width(batch, self.forest_.dim, "the request has rows")
        check_finite(batch, "the request")
        return {"score": self._scores(batch, _threads())}

    def _scores(self, batch: Batch, threads: int) -> np.ndarray:
        return np.concatenate([self.forest_.score(rows, threads) for rows in _dense(batch)] or [np.empty(0)])

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """-1 for rows whose score lies above `threshold_`, 1 for the others, as scikit-learn has it."""
        return np.where(fields["score"] > self.threshold_, -1, 1)

    def score_samples(self, X: Any) -> np.ndarray:
        """The negative of the anomaly score, (n,): scikit-learn's outlier detectors have lower = more abnormal."""
        return -np.asarray(self._fields(X, {})["score"])

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` above `offset_`: negative for outliers, (n,)."""
        return self.score_samples(X) - self.offset_

    @property
    def score(self) -> NoReturn:
        """An outlier detector has none, as in scikit-learn: compare `predict` or `score_samples` with labels."""
        raise AttributeError(f"{type(self).__name__} has no score")

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit`, then `predict` on the same rows."""
        return np.asarray(self.fit(X).predict(X))

    @property
    def offset_(self) -> float:
        """The negative of `threshold_`, which a caller may set."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__} has no offset_ before fit")
        return -self.threshold_

    def attribute(self, X: Any) -> np.ndarray:
        """(n, d, 2): the part of each row's score that a column's value has for being too high, and too low.

        The parts of a row sum to its score.
        """
        batch = self._given(X)
        return np.concatenate([self.forest_.attribute(rows, _threads()) for rows in _dense(batch)])

    def suggest_threshold(self, X: Any, *, fraction: float | None = None, deviations: float = 3.0) -> float:
        """The score above which to call rows like those of `X` abnormal; set `threshold_` to it to have it used.

        Args:
            fraction: the share of `X` that should lie above it; None: mean + `deviations` standard deviations.
        """
        scores = -self.score_samples(X)
        if fraction is None:
            return three_sigma(scores, deviations)
        if not 0 < fraction < 1:
            raise ValueError(f"fraction: {fraction!r} is not in (0, 1)")
        return float(np.quantile(scores, 1 - fraction))

    def stream(self, *, shingle_size: int = 1, time_decay: float | None = None) -> StreamingForest:
        """A forest that goes on learning and forgetting, value by value, from what this one has learnt.

        Rows of the training data were shingles of `shingle_size` values.
        """
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        seed = self._seed(1)
        return StreamingForest.of(self.forest_, shingle_size=shingle_size, time_decay=time_decay, seed=seed)

    def _given(self, X: Any) -> Batch:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        batch = self.channel_of("rows", X).read()
        check_width(batch, self.forest_.dim, "X has rows")
        return batch

    # -- the artifact ------------------------------------------------------------------------------------------
    def arrays(self) -> Mapping[str, np.ndarray]:
        return self.forest_.saved()

    def facts(self) -> Mapping[str, Any]:
        return {"scale": self.forest_.scale, "threshold": self.threshold_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        forest = Forest.restored(arrays, float(facts["scale"]))
        if self.settings["feature_dim"] not in (None, forest.dim):
            raise ValueError(f"points of {forest.dim} columns, but feature_dim is {self.settings['feature_dim']}")
        self.forest_, self.threshold_ = forest, float(facts["threshold"])

    @classmethod
    def warm_up(cls) -> None:
        def load() -> None:
            Forest.grown(np.eye(8, dtype=np.float32), 1, 8, 0, 1).score(np.eye(8, dtype=np.float32))

        threading.Thread(target=load, daemon=True).start()


def three_sigma(scores: np.ndarray, deviations: float = 3.0) -> float:
    return float(scores.mean() + deviations * scores.std())


@functools.cache
def _threads() -> int:
    """The processors for a request; a Run looks for GPUs too, which takes longer than to score a row."""
    return Run().threads


def _dense(batch: Batch) -> Iterator[np.ndarray]:
    """The rows as arrays; sparse ones a part at a time, for a tree's boxes are dense."""
    features: Any = batch.features
    if not batch.is_sparse:
        yield features
        return
    step = max(1, VALUES_AT_ONCE // max(1, batch.width))
    for start in range(0, len(batch), step):
        yield features[start : start + step].toarray()
