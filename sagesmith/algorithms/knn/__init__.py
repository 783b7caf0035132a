"""k-nearest neighbours: a sample of the rows, an index over it, and the vote or the mean of the nearest.

Papers: Cover and Hart, Nearest neighbor pattern classification, IEEE Trans. Inf. Theory 13 (1967); Johnson, Douze and
Jégou, Billion-scale similarity search with GPUs, IEEE Trans. Big Data 7 (2021: faiss); Jégou, Douze and Schmid, Product
quantization for nearest neighbor search, PAMI 33 (2011: IVFPQ).

SageMaker is followed in names, defaults, ranges, log, answers and the three files of the artifact. Its own choices
where it says nothing: a tie goes to the smaller label, equal distances to the earlier row, and the sample is uniform
over all hosts together. Left out: a GPU. Steps: sampling.py, space.py with reduction.py, index.py with exact.py,
voting.py, artifact.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from sagesmith.algorithms.base import Algorithm, ChannelSpec, HyperparameterError, Metric, Role
from sagesmith.algorithms.first_party import (
    ANSWERS,
    JOB_METRICS,
    REQUESTS,
    ROWS,
    check_finite,
    check_labels,
    check_width,
    passes,
    report_scores,
)
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.knn import artifact, index, voting
from sagesmith.algorithms.knn.reduction import KINDS, Reduction
from sagesmith.algorithms.knn.sampling import Reservoir, gathered
from sagesmith.algorithms.knn.space import Space
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel

SEED = 0  # of sample and projection; SageMaker has no hyperparameter for it
BLOCKS = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)

_NO_WEIGHTS = "a neighbour counts once: rows of different weights are refused, not ignored"


class KNN(Algorithm):
    """k-nearest neighbours: classification by vote or regression by mean, over an index of faiss."""

    name = "knn"
    images = ("knn",)
    dimension = "AWS/KNN"
    channels = (
        ChannelSpec("train", required=True, content_types=ROWS, default=ROWS[0]),
        ChannelSpec("test", content_types=ROWS, default=ROWS[0]),
    )
    metrics = (
        Metric("test:accuracy", r"#quality_metric: host=\S+, test accuracy <score>=(\S+)", "Maximize"),
        Metric("test:mse", r"#quality_metric: host=\S+, test mse <loss>=(\S+)", "Minimize"),
        *JOB_METRICS,
    )
    accepts = REQUESTS
    returns = ANSWERS
    distributed = True
    example = {"k": 5, "predictor_type": "classifier"}
    exceptions = {
        "check_metric_regexes": "k-NN has metrics of a test channel only; tests/algorithms/test_knn_job.py finds them",
        "check_sample_weight_equivalence_on_dense_data": _NO_WEIGHTS,
        "check_sample_weight_equivalence_on_sparse_data": _NO_WEIGHTS,
        "check_sample_weights_not_overwritten": _NO_WEIGHTS,
        "check_classifiers_one_label_sample_weights": _NO_WEIGHTS,
    }

    feature_dim: int | Literal["auto"] = hp("columns of the data; auto: as many as they have", default="auto", ge=1)
    k: int = hp("neighbours that vote or are averaged", ge=1, tunable=Tunable(1, 1024))
    predictor_type: str = hp("vote (classifier) or mean (regressor)", choices=("classifier", "regressor"))
    sample_size: int = hp(
        "rows that are kept, over all hosts; in Python and on the command line all, when not given",
        default=None,
        ge=1,
        inferred=True,
        tunable=Tunable(256, 20_000_000),
    )
    dimension_reduction_type: str = hp("projection to fewer columns; none when not given", default=None, choices=KINDS)
    dimension_reduction_target: int = hp("columns after the projection, fewer than feature_dim", default=None, ge=1)
    index_type: str = hp(
        "exact, or approximate by lists (IVF) of vectors or of codes (PQ)",
        default=index.FLAT,
        choices=(index.FLAT, index.IVF_FLAT, index.IVF_PQ),
    )
    index_metric: str = hp("what is near; IVFPQ takes L2 only", default="L2", choices=("L2", "INNER_PRODUCT", "COSINE"))
    faiss_index_ivf_nlists: int | Literal["auto"] = hp(
        "lists of an IVF index; auto: the root of the number of rows in the sample", default="auto", ge=1
    )
    faiss_index_pq_m: int = hp(
        "blocks of columns, coded in a byte each; required by IVFPQ", default=None, choices=BLOCKS
    )
    mini_batch_size: int = hp("rows that are read and searched at a time", default=5000, ge=1)
    faiss_index_nprobe: int = hp(
        "lists of an IVF index that are looked into", name="_faiss_index_nprobe", default=5, ge=1
    )

    @classmethod
    def warm_up(cls) -> None:
        threading.Thread(target=_load, name="loading faiss").start()

    @property
    def task(self) -> Role:
        return "regressor" if self.predictor_type == "regressor" else "classifier"

    def check(self) -> None:
        """Rules between hyperparameters."""
        given = self.settings
        if given["sample_size"] is not None and given["sample_size"] < given["k"]:
            raise HyperparameterError(
                f"Hyperparameter sample_size: {given['sample_size']} is less than k ({given['k']}): a row cannot have "
                "more neighbours than there are rows"
            )
        if (given["dimension_reduction_type"] is None) != (given["dimension_reduction_target"] is None):
            raise HyperparameterError("dimension_reduction_type and dimension_reduction_target need one another")
        if given["feature_dim"] != "auto":
            self._check_target(given["feature_dim"])
        if given["index_type"] == index.IVF_PQ and given["faiss_index_pq_m"] is None:
            raise HyperparameterError("Missing required hyperparameter: faiss_index_pq_m, for index_type faiss.IVFPQ")
        if given["index_type"] == index.IVF_PQ and given["index_metric"] != "L2":
            raise HyperparameterError(f"index_type faiss.IVFPQ takes index_metric L2, not {given['index_metric']}")

    def _check_target(self, width: int) -> None:
        target = self.settings["dimension_reduction_target"]
        if target is not None and target >= width:
            raise HyperparameterError(
                f"Hyperparameter dimension_reduction_target: {target} is not in [1, {width - 1}], below feature_dim"
            )

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        """Samples, indexes and scores the test channel. Every host ends with the model; the first saves it."""
        told = getattr(
            self, "classes_", None
        )  # the classes of a Python caller's arrays, whose labels are codes for them
        sample = self._sample(channels["train"], run)
        if self.settings["k"] > len(sample):
            raise ValueError(f"k is {self.settings['k']}, but the train channel has only {len(sample)} rows (samples)")
        labels = self._meant(check_labels(sample, "the sample"), told)
        space = self._space(sample.width)
        vectors = space.vectors(sample.features)
        del sample  # it and the vectors may be large
        run.log("Training index...")
        started = time.monotonic()
        built = index.build(vectors, self.settings)
        run.log("...Finished training index in %d second(s)", time.monotonic() - started)
        self._become(built, labels, space, run.threads)
        if "test" in channels:
            self._report(channels["test"], run, told if channels["test"].is_arrays else None)
        else:
            run.log("Test data is not provided.")

    def _sample(self, channel: Channel, run: Run) -> Batch:
        """The rows that are kept, of all hosts, on every host."""
        size, hosts = self.settings["sample_size"], len(run.hosts)
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        share = "all" if size is None else -(-size // hosts)
        run.log(
            "Using per-worker sample size = %s (Available virtual memory = %s bytes, GPU free memory = 0 bytes, "
            "number of workers = %s).",
            share,
            memory,
            hosts,
        )
        reservoir = Reservoir(size, SEED, run.rank, digest=hosts > 1)
        started = time.monotonic()
        width = None if self.settings["feature_dim"] == "auto" else self.settings["feature_dim"]
        # Parts of an array would be joined again.
        rows = None if channel.is_arrays else self.settings["mini_batch_size"]
        for batch in passes(channel, rows, width):
            if batch.weight is not None and len(np.unique(batch.weight)) > 1:
                raise ValueError(
                    "rows of different weights: k-NN has no use for sample_weight, every row counts as one"
                )
            reservoir.add(Batch(batch.features, self._labels(batch, channel.name, reservoir.seen)))
            if run.stopping:
                break
        run.progress(1, 1, reservoir.seen / max(1e-9, time.monotonic() - started))
        run.log("Getting reservoir sample from %s...", run.host)
        sample = gathered(reservoir, run)
        if sample is None:
            raise ValueError("the train channel holds no rows on any host")
        shape = (len(sample), sample.width)
        run.log("...Got reservoir sample from %s: data=%s, labels=(%s,), NaNs=0", run.host, shape, shape[0])
        return sample

    def _passes(self, channel: Channel) -> Iterator[Batch]:
        width = self.settings["feature_dim"]
        return passes(channel, self.settings["mini_batch_size"], None if width == "auto" else width)

    @staticmethod
    def _labels(batch: Batch, channel: str, before: int) -> np.ndarray:
        return check_labels(batch, f"channel {channel!r}", before=before)

    def _meant(self, labels: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
        """Labels as they are answered: codes become the classes that they stand for, where those are numbers."""
        if self.task != "classifier" or classes is None or not _are_numbers(classes):
            return labels
        return np.asarray(classes[labels.astype(np.int64)], np.float32)

    def _space(self, width: int) -> Space:
        """Projection and padding: faiss.IVFPQ takes as many columns as its blocks divide, so the next multiple."""
        self._check_target(width)
        kind, target = (self.settings[f"dimension_reduction_{name}"] for name in ("type", "target"))
        depth = target if kind else width
        if self.settings["index_type"] == index.IVF_PQ:
            depth = -(-depth // self.settings["faiss_index_pq_m"]) * self.settings["faiss_index_pq_m"]
        reduction = Reduction(kind, SEED, depth, width) if kind else None
        return Space(width, depth, reduction, self.settings["index_metric"] == "COSINE")

    def _become(self, built: Any, labels: np.ndarray, space: Space, threads: int) -> None:
        """Takes what was learnt: an index, the labels of its rows, and the space that they are in."""
        self.index_ = index.Searcher(built, threads)
        self.labels_, self.space_ = labels, space
        self.values_, self._value_of_row = np.unique(labels, return_inverse=True)
        if self.task == "classifier" and "classes_" not in vars(self):
            self.classes_ = self.values_

    def _report(self, channel: Channel, run: Run, told: np.ndarray | None) -> None:
        """Scores the test channel, over all hosts."""
        seen, tables = 0, [np.empty((0, 3))]
        for batch in self._passes(channel):
            truth = self._meant(self._labels(batch, channel.name, seen), told)
            run.log("Searching index...")
            started = time.monotonic()
            predicted = self.infer(batch)["predicted_label"]
            run.log("...Done searching index in %d second(s)", time.monotonic() - started)
            seen += len(batch)
            if self.task == "classifier":
                tables.append(voting.confusion(truth, predicted))
            else:
                tables.append(np.array([[((truth - predicted.astype(float)) ** 2).sum(), 0, len(batch)]]))
            if run.stopping:
                break
        tables = [np.frombuffer(state).reshape(-1, 3) for state in run.gather(np.concatenate(tables).tobytes())]
        table = np.concatenate(tables)
        if not len(table):
            run.log("The test channel holds no rows; there is nothing to score", level=logging.WARNING)
        elif self.task == "classifier":
            report_scores(run, "test", voting.classifier_scores(table))
        else:
            report_scores(run, "test", [("mse", float(table[:, 0].sum() / table[:, 2].sum()), "loss")])

    def infer(self, batch: Batch, verbose: bool = False, **options: Any) -> Mapping[str, Any]:
        """`predicted_label`, (n,); verbose: also `distances` and `labels` of the neighbours, (n, k), nearest first."""
        check_width(batch, self.space_.width, "the rows are")
        check_finite(batch, "the rows")
        distances, rows = self.index_.search(self.space_.vectors(batch.features), self.settings["k"])
        if self.task == "classifier":
            predicted = self.values_[voting.winners(self._value_of_row[rows], len(self.values_))]
        else:
            predicted = self.labels_[rows].mean(axis=1, dtype=np.float64).astype(np.float32)
        fields = {"predicted_label": predicted}
        return {**fields, "distances": distances, "labels": self.labels_[rows]} if verbose is True else fields

    def predict_from(self, fields: Mapping[str, Any]) -> Any:
        """Classes as `fit` was given them, or the mean."""
        predicted = np.asarray(fields["predicted_label"])
        if self.task != "classifier":
            return predicted
        if not _are_numbers(self.classes_):
            return self.classes_[predicted.astype(np.int64)]
        return self.classes_[np.searchsorted(self.classes_.astype(np.float32), predicted)]

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """The share of the neighbours that are of each class, (n, classes)."""
        codes = np.searchsorted(self.values_, fields["labels"])
        shares = voting.votes(codes, len(self.values_)) / codes.shape[1]
        known = np.zeros((len(codes), len(self.classes_)))  # a sample may lack a class
        known[:, self._classes_of(self.values_)] = shares
        return known

    def _classes_of(self, values: np.ndarray) -> np.ndarray:
        """Which of `classes_` each label stands for."""
        if not _are_numbers(self.classes_):
            return values.astype(np.int64)
        return np.searchsorted(self.classes_.astype(np.float32), values)

    def _predict_proba(self, X: Any, **options: Any) -> np.ndarray:
        return super()._predict_proba(X, **{**options, "verbose": True})

    def kneighbors(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Distances (squared L2, or the inner product) and labels of the k nearest rows, (n, k) each, nearest first."""
        fields = self._fields(X, {"verbose": True})
        return fields["distances"], fields["labels"]

    def save(self, folder: Path) -> None:
        metadata = {
            "k": self.settings["k"],
            "predictor_type": self.settings["predictor_type"],
            **self.space_.metadata(),
        }
        if self.task == "classifier" and not _are_numbers(self.classes_):
            metadata["classes"] = self.classes_.tolist()
        artifact.write(folder, self.index_.index, self.labels_, metadata)

    @classmethod
    def load(cls, folder: Path) -> Self:
        metadata = artifact.read_metadata(folder)
        built = artifact.read_index(folder)
        labels = artifact.read_labels(folder, built.ntotal)
        try:
            if metadata["k"] > built.ntotal:
                raise ValueError(f"k is {metadata['k']}, but the index has {built.ntotal} rows")
            space = Space.of(metadata, built.d)
            model = cls(**_settings(metadata, built, space))
            if model.task == "classifier" and "classes" in metadata:
                model.classes_ = _classes(metadata["classes"], labels)
        except ValueError as error:
            raise ValueError(f"{folder / artifact.METADATA} does not fit the index beside it: {error}") from None
        model._become(built, labels, space, Run().threads)
        return model


def _load() -> None:
    """Imports what a search needs."""
    with contextlib.suppress(ImportError):  # who needs it will say so
        import faiss  # noqa: F401

        import sagesmith.algorithms.knn.exact_compiled  # noqa: F401


def _settings(metadata: Mapping[str, Any], built: Any, space: Space) -> dict[str, Any]:
    """The hyperparameters of a saved model."""
    settings = {"k": metadata["k"], "predictor_type": metadata["predictor_type"], "feature_dim": space.width}
    settings |= {"sample_size": built.ntotal, **index.settings_of(built, space.normalize)}
    if space.reduction is not None:
        settings["dimension_reduction_type"] = space.reduction.kind
        settings["dimension_reduction_target"] = min(space.depth, space.width - 1)  # as it was before padding
    return settings


def _are_numbers(classes: np.ndarray) -> bool:
    """Whether classes can be answered as they are: numbers that float32 holds."""
    return classes.dtype.kind in "iufb" and bool((classes.astype(np.float32) == classes).all())


def _classes(names: Any, labels: np.ndarray) -> np.ndarray:
    """The classes of labels that are their numbers."""
    if not isinstance(names, list) or not names:
        raise ValueError("classes is no list")
    known = (labels >= 0) & (labels < len(names)) & (labels % 1 == 0)
    if not known.all():
        raise ValueError(f"a label is {labels[~known][0]:g}, there are {len(names)} classes")
    return np.asarray(names)
