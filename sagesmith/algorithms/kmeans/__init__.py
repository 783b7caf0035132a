"""KMeans: k-means over streams: a pass keeps many weighted centers, which are shrunk to k at its end.

Papers: Liberty et al., Elastic Machine Learning Algorithms in Amazon SageMaker, SIGMOD 2020
(doi 10.1145/3318464.3386126); Sculley, Web-Scale K-Means Clustering, WWW 2010 (the mini-batch update); Arthur and
Vassilvitskii, k-means++, SODA 2007 (seeding); Guha et al., Clustering Data Streams, TKDE 15 (2003) (weighted centers of
parts, united and clustered again, which is how several hosts join).

    1. K = k * extra_center_factor centers are drawn from the first mini-batch        seeding.py
    2. every mini-batch moves its nearest centers; counts are their weights           summary.py
    3. several hosts: the centers of all are united                                   summary.py
    4. exchanges and Lloyd's algorithm, with restarts, shrink them to k               exchange_compiled.py, lloyd.py
    5. the best of them are refined on a sample of the rows                           sample.py, lloyd.py
    assignment, in all of them                                                        centers.py

SageMaker is followed in names, defaults, log lines, metrics, answers and file names. Where we differ (see
docs/algorithms/kmeans.md): step 5 is ours, hosts unite their centers once a pass instead of averaging them each batch,
and the artifact is npz. Left out: GPUs (the kernels here are for processors).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sagesmith.algorithms.base import ChannelSpec, Metric, Streaming
from sagesmith.algorithms.first_party import (
    ANSWERS,
    CSV,
    JOB_METRICS,
    ROWS,
    FirstParty,
    check_finite,
    check_width,
    passes,
    report_scores,
)
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

METHODS = ("random", "kmeans++")


def _scores(value: list[str]) -> str | None:
    return None if value and set(value) <= {"msd", "ssd"} else 'a list of "msd" and "ssd"'


class KMeans(FirstParty, Streaming):
    """K-means clustering of streams: mini-batches over many centers, shrunk to k."""

    name = "kmeans"
    images = ("kmeans",)
    role = "clusterer"
    dimension = "AWS/KMeansWebscale"
    channels = (
        ChannelSpec("train", True, ROWS, ROWS[0]),
        ChannelSpec("test", False, ROWS, ROWS[0]),
    )
    metrics = (
        Metric("test:msd", r"#quality_metric: host=\S+, test msd <loss>=(\S+)", "Minimize"),
        Metric("test:ssd", r"#quality_metric: host=\S+, test ssd <loss>=(\S+)", "Minimize"),
        Metric("train:msd", r"#quality_metric: host=\S+, train msd <loss>=(\S+)", "Minimize"),
        *JOB_METRICS,
    )
    returns = (*ANSWERS, CSV)
    distributed = True
    checks_values = True  # the distances of a pass tell
    example = {"k": 3, "mini_batch_size": 60}
    exceptions = {
        "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is drawn once, two rows twice",
        "check_sample_weight_equivalence_on_sparse_data": "a row of weight 2 is drawn once, two rows twice",
        "check_parameters_default_constructible": "SageMaker's default of eval_metrics is a list",
    }

    feature_dim: int = hp("columns", default=None, ge=1, inferred=True)
    k: int = hp("clusters", ge=1)
    mini_batch_size: int = hp("rows of an update", default=5000, ge=1, tunable=Tunable(3000, 15000, "Linear"))
    num_epochs: int = hp(
        "passes over the data", name="epochs", aliases=("epochs",), default=1, ge=1, tunable=Tunable(1, 10, "Linear")
    )
    init_method: str = hp(
        "how the first K centers are drawn", default="random", choices=METHODS, tunable=Tunable(values=METHODS)
    )
    extra_center_factor: int | Literal["auto"] = hp(
        "K = k times this while streaming; auto: 10", default="auto", ge=1, tunable=Tunable(4, 10, "Linear")
    )
    half_life_time_size: int = hp("rows after which a row counts half; 0: all count alike", default=0, ge=0)
    local_lloyd_init_method: str = hp("how the k centers are drawn from the K", default="kmeans++", choices=METHODS)
    local_lloyd_max_iter: int = hp("most iterations of Lloyd's algorithm", default=300, ge=1)
    local_lloyd_num_trials: int | Literal["auto"] = hp("restarts of it; auto: 10", default="auto", ge=1)
    local_lloyd_tol: float = hp("it ends when the distance falls by less, relatively", default=0.0001, ge=0, le=1)
    eval_metrics: list[str] = hp("scores to report: msd, ssd", default=["msd"], check=_scores)
    num_slices: int = hp("taken for compatibility; announced", name="_num_slices", default=1, ge=1)
    disable_wait_to_read: bool = hp("taken for compatibility; announced", name="_disable_wait_to_read", default=False)

    # -- training, step by step as Streaming.train calls it ----------------------------------------------------
    def epochs(self) -> int:
        return int(self.settings["num_epochs"])

    def begin(self, run: Run) -> None:
        from sagesmith.algorithms.kmeans.training import Training

        for learnt in ("cluster_centers_", "labels_", "inertia_"):
            vars(self).pop(learnt, None)
        self._training = Training(self.settings, run)

    def batches(self, channel: Channel) -> Iterator[Batch]:
        found = passes(channel, self.settings["mini_batch_size"], self.settings["feature_dim"])
        return self._training.passing(found, quiet=channel.is_arrays)

    def update(self, batch: Batch) -> None:
        self._training.update(batch)

    def state(self) -> bytes:
        return self._training.pack()

    def merge(self, others: Iterable[bytes]) -> None:
        """Keeps the centers of all hosts for `finish`; with further passes each host goes on from its own."""
        self._training.unite(others)

    def finish(self, run: Run) -> None:
        centers, *self._made = self._training.finish()
        self._keep(centers)
        run.metrics("training", {"_shrink.time": self._training.milliseconds()})

    def _keep(self, centers: np.ndarray) -> None:
        from sagesmith.algorithms.kmeans.centers import Centers

        self.cluster_centers_ = centers.astype(np.float32)
        self.n_features_in_ = int(centers.shape[1])
        self._search = Centers(self.cluster_centers_)

    def evaluate(self, channels: Mapping[str, Channel], run: Run, epoch: int | None) -> None:
        training = self._training
        if epoch is not None:
            run.metrics("training", {"update.time": training.milliseconds()}, epoch=epoch)
            known = training.known
            if run.is_master and known.weight > 0:
                run.quality("train msd", known.ssd / known.weight, epoch=epoch)
            return
        del self._training
        msd, ssd = vars(self).pop("_made")
        if run.is_master:
            self._report(run, "train", msd, ssd)
        if channels["train"].is_arrays:
            self._look_back(channels["train"], run)
        if "test" in channels:
            weight, ssd = self._distance(channels["test"], run)
            if weight > 0 and run.is_master:
                self._report(run, "test", ssd / weight, ssd)
        run.metrics("training", {"finalize.time": training.milliseconds()})
        self._saving = run.metrics  # for the one save that ends a job

    def _report(self, run: Run, channel: str, msd: float, ssd: float) -> None:
        values = {"msd": msd, "ssd": ssd}
        report_scores(run, channel, [(name, values[name], "loss") for name in self.settings["eval_metrics"]])

    def _look_back(self, channel: Channel, run: Run) -> None:
        """scikit-learn's `labels_` and `inertia_`, for arrays, which lie there anyway."""
        from sagesmith.algorithms.kmeans.centers import weighted

        batch = channel.read()
        self.labels_, squares = self._search.nearest(batch.features, run.threads)
        self.inertia_ = weighted(squares, batch.weight)

    def _distance(self, channel: Channel, run: Run) -> tuple[float, float]:
        """The (weighted) rows of a channel and the sum of their squared distances to the model.

        Of the shards of all hosts, as the SDK's `record_set` shards also a test set; hosts that found the very same
        sums have the same rows, and one of them is enough.
        """
        from sagesmith.algorithms.kmeans.centers import weighted

        weight, ssd = 0.0, 0.0
        for batch in passes(channel, width=self.n_features_in_):
            squares = self._search.nearest(batch.features, run.threads)[1]
            if not np.isfinite(squares.sum()):
                check_finite(batch, f"channel {channel.name!r}")
            weight += len(batch) if batch.weight is None else float(batch.weight.sum(dtype=np.float64))
            ssd += weighted(squares, batch.weight)
        found = {tuple(np.frombuffer(part).tolist()) for part in run.gather(np.array([weight, ssd]).tobytes())}
        return sum(one[0] for one in found), sum(one[1] for one in found)

    # -- the model ---------------------------------------------------------------------------------------------
    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`closest_cluster`, (n,) whole numbers as float32, and `distance_to_cluster`, (n,), Euclidean.

        With the option `distances`: the distances to all centers, (n, k), alone.
        """
        check_width(batch, self.n_features_in_, "the request has rows")
        check_finite(batch, "the request")
        if options.get("distances"):
            return {"distances": self._search.distances(batch.features)}
        labels, squares = self._search.nearest_for_a_request(batch.features, Run().threads)
        return {"closest_cluster": labels.astype(np.float32), "distance_to_cluster": np.sqrt(squares)}

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """Cluster numbers from 0."""
        return np.asarray(fields["closest_cluster"]).astype(np.int32)

    def fit_predict(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> np.ndarray:
        """`fit`, and the cluster of each row."""
        return np.asarray(self.fit(X, sample_weight=sample_weight).predict(X))

    def transform(self, X: Any) -> np.ndarray:
        """The Euclidean distance of each row to each center, (n, k)."""
        return np.asarray(self._fields(X, {"distances": True})["distances"])

    def fit_transform(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> np.ndarray:
        """`fit`, and the distance of each row to each center, (n, k)."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the sum of squared distances, as scikit-learn's KMeans: the larger, the better."""
        from sagesmith.algorithms.kmeans.centers import weighted

        squares = np.asarray(self._fields(X, {})["distance_to_cluster"]) ** 2
        return -weighted(squares, None if sample_weight is None else np.asarray(sample_weight))

    def save(self, folder: Path) -> None:
        begun = time.monotonic()
        super().save(folder)
        metrics = vars(self).pop("_saving", None)
        if metrics is not None:
            metrics("training", {"model.serialize.time": 1000 * (time.monotonic() - begun)})

    def arrays(self) -> Mapping[str, np.ndarray]:
        return {"centers": self.cluster_centers_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        centers = arrays["centers"]
        if centers.ndim != 2 or len(centers) != self.settings["k"] or not np.isfinite(centers).all():
            raise ValueError(f"'centers' has shape {centers.shape}, expected {self.settings['k']} finite rows")
        self._keep(centers)
