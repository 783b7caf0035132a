"""PCA: principal components from one streaming pass, with the exact scatter matrix or with a sketch of it.

`regular` sums count, mean and scatter matrix, d² numbers (moments.py), and takes its leading eigenvectors
(spectrum.py); the answer is that of an SVD of the centred data. `randomized` keeps (num_components +
extra_components) · d numbers: the scatter matrix S times random signs, from which S is approximated by Nyström's
method. Both states merge exactly, over any number of hosts.

Papers: Liberty et al., Elastic Machine Learning Algorithms in Amazon SageMaker, SIGMOD 2020 (the streaming state);
Tropp et al., Fixed-Rank Approximation of a Positive-Semidefinite Matrix from Streaming Data, NeurIPS 2017.

As in SageMaker: names, defaults, log lines, `s` and the columns of `v` in ascending order, so that the last number of
a projection is the first principal component. Ours: what the sketch multiplies (docs/decisions/0019), the scores on
the test channel, and components whose sign does not hang on chance. Left out: MXNet's file format.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.base import ChannelSpec, HyperparameterError, Streaming
from sagesmith.algorithms.first_party import (
    JOB_METRICS,
    ROWS,
    FirstParty,
    check_finite,
    check_width,
    passes,
    report_scores,
)
from sagesmith.algorithms.hyperparameters import hp
from sagesmith.algorithms.pca.moments import Moments
from sagesmith.algorithms.pca.spectrum import leading, leading_of_sketch, probes, signed
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch, join
from sagesmith.formats.channel import Channel

MODES = ("regular", "randomized")
SKETCH = 64  # rows of the sketch at least, unless extra_components says otherwise: fewer cost no less time
SLICE = 1 << 18  # numbers that are centred at once when rows are projected: 1 MB


class PCA(Streaming, FirstParty):
    """Principal component analysis: the directions in which rows of numbers differ most."""

    name = "pca"
    images = ("pca",)
    role = "transformer"
    dimension = "PCA"
    channels = (
        ChannelSpec("train", required=True, content_types=ROWS, default=ROWS[0], label_size=0),
        ChannelSpec("test", content_types=ROWS, default=ROWS[0], label_size=0),
    )
    metrics = JOB_METRICS
    answer_key = "projections"
    distributed = True
    checks_values = True  # the sums of a pass tell
    example = {"num_components": 2}
    exceptions = {
        "check_metric_regexes": "SageMaker has train:progress and train:throughput only, whose lines only a job writes",
        "check_estimator_sparse_array": "wants one number per row from `predict`, which gives the projections",
        "check_estimator_sparse_matrix": "wants one number per row from `predict`, which gives the projections",
    }

    feature_dim: int = hp("columns of the data", default=None, ge=1, inferred=True)
    mini_batch_size: int = hp(
        "rows of a batch; several are taken at once, and the result does not hang on it",
        default=None,
        ge=1,
        inferred=True,
    )
    num_components: int = hp("components to keep; in Python all by default", default=None, ge=1, inferred=True)
    algorithm_mode: str = hp(
        "`regular`: the exact scatter matrix, d² numbers; `randomized`: a sketch, (components + extra) · d numbers",
        default="regular",
        choices=MODES,
    )
    extra_components: int = hp(
        "`randomized` only: rows of the sketch beyond num_components; -1: max(10, num_components), 64 in all at least",
        default=-1,
        ge=-1,
    )
    subtract_mean: bool = hp("centre the columns, in training and at inference", default=True)

    def check(self) -> None:
        components, width = self.settings["num_components"], self.settings["feature_dim"]
        if components and width and components > width:
            raise HyperparameterError(
                f"Hyperparameter num_components: {components} is not in [1, {width}]; feature_dim is {width}"
            )

    # -- one pass: the state -----------------------------------------------------------------------------------
    def begin(self, run: Run) -> None:
        for attribute in ("mean_", "v_", "s_", "rows_", "total_"):
            vars(self).pop(attribute, None)
        self._run, self._seconds = run, dict.fromkeys(("initialize", "update", "finalize"), 0.0)
        self._moments: Moments | None = None
        if self.settings["algorithm_mode"] == "regular" and self.settings["extra_components"] >= 0:
            run.log("Hyperparameter extra_components has no effect with algorithm_mode regular")

    def batches(self, channel: Channel) -> Iterator[Batch]:
        """As many rows at once as make the products of matrices quick: as many numbers as the state has."""
        waiting: list[Batch] = []
        held = 0
        for batch in passes(channel, width=self.settings["feature_dim"]):
            waiting.append(batch)
            held += int(batch.features.size)  # of sparse rows: those that are not zero
            if held >= self._started(batch.width).block_rows * batch.width:
                yield join(waiting)
                waiting, held = [], 0
        if waiting:
            yield join(waiting)

    def update(self, batch: Batch) -> None:
        if not len(batch):
            return
        started = time.monotonic()
        state = self._started(batch.width)
        if not state.seen:
            self._announce(batch)
        state.add(batch.features, self._run.threads)
        self._seconds["update"] += time.monotonic() - started

    def state(self) -> bytes:
        return self._moments.to_bytes() if self._moments else b""

    def merge(self, others: Iterable[bytes]) -> None:
        merged: Moments | None = None
        for content in others:
            if content:
                other = Moments.of_bytes(content, self._moments.probes if self._moments else None)
                merged = merged or Moments(len(other.mean), other.probes)
                merged.join(other)
        self._moments = merged

    def finish(self, run: Run) -> None:
        started, state = time.monotonic(), self._moments
        if state is None or not state.seen:
            raise ValueError("channel 'train' holds no rows")
        components = self.settings["num_components"] or min(state.seen, len(state.mean))
        products, self.total_ = state.second_moments(self.settings["subtract_mean"])
        if state.probes is None:
            values, vectors = leading(products, components)
        else:
            values, vectors = leading_of_sketch(products, state.probes, components)
        self.mean_, self.rows_ = state.mean, state.count
        self.s_ = np.sqrt(np.maximum(values, 0))
        self.v_ = np.ascontiguousarray(signed(vectors), np.float32)
        self._seconds["finalize"] = time.monotonic() - started
        run.metrics("training", {f"{name}.time": 1000 * each for name, each in self._seconds.items()} | {"epochs": 1})
        del self._moments, self._seconds, self._run

    def evaluate(self, channels: Mapping[str, Channel], run: Run, epoch: int | None) -> None:
        """At the end: how well the test channel's rows come back from their projections."""
        if epoch is not None or "test" not in channels:
            return
        sums = np.zeros(3)  # rows, squared length of what is lost, squared length of all
        for batch in passes(channels["test"], width=len(self.mean_)):
            check_finite(batch, "channel 'test'")
            sums += len(batch), *self._lost(batch)
        sums = np.sum([np.frombuffer(part) for part in run.gather(sums.tobytes())], axis=0)
        rows, lost, whole = map(float, sums)
        if rows and run.is_master:
            kept = 1 - lost / whole if whole else 1.0
            report_scores(
                run, "test", [("reconstruction_error", lost / rows, "loss"), ("explained_variance", kept, "score")]
            )

    def _started(self, width: int) -> Moments:
        """The state, made when the number of columns is known."""
        if self._moments is None:
            started = time.monotonic()
            components = self.settings["num_components"] or 1
            if components > width:
                raise ValueError(f"num_components is {components}, but the rows have {width} columns")
            number = self._sketch_rows(width)
            if number is None and 8 * width**2 > _memory():
                raise ValueError(
                    f"algorithm_mode regular keeps {width:,}² numbers ({8 * width**2 / 2**30:.0f} GiB), more than this "
                    "host's memory; use algorithm_mode randomized"
                )
            self._moments = Moments(width, None if number is None else probes(width, number))
            self._seconds["initialize"] = time.monotonic() - started
        return self._moments

    def _sketch_rows(self, width: int) -> int | None:
        """Rows of the sketch; None where the scatter matrix itself is wanted, or not larger."""
        if self.settings["algorithm_mode"] == "regular":
            return None
        components, extra = self.settings["num_components"] or width, self.settings["extra_components"]
        rows = components + extra if extra >= 0 else max(components + max(10, components), SKETCH)
        return rows if rows < width else None

    def _announce(self, batch: Batch) -> None:
        size = self.settings["mini_batch_size"] or len(batch)
        self._run.log("%d feature(s) found in 'data'.", batch.width)
        self._run.log("<PCAExecutor on cpu(0)> is assigned to batch slice from 0 to %d.", size - 1)
        if self.settings["algorithm_mode"] == "randomized":
            rows = self._sketch_rows(batch.width)
            kept = (
                f"a sketch of {rows} rows" if rows else "the whole scatter matrix, which is no larger than the sketch"
            )
            self._run.log("algorithm_mode randomized keeps %s", kept)

    # -- the model ---------------------------------------------------------------------------------------------
    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`projection`: (x - mean) · v, or x · v without subtract_mean, (n, components) float32."""
        check_width(batch, len(self.mean_), "the request has rows")
        check_finite(batch, "the request")
        return {"projection": self._projected(batch)}

    def _projected(self, batch: Batch) -> np.ndarray:
        centre = self._centre()
        if batch.is_sparse:
            moved: np.ndarray = batch.features @ self.v_ - centre @ self.v_
            return moved.astype(np.float32)
        near = centre.astype(np.float32)  # rows minus this is exact where it matters; the rest is one vector
        rest = ((centre - near) @ self.v_).astype(np.float32)
        answer = np.empty((len(batch), len(self.s_)), np.float32)
        step = max(1, SLICE // batch.width)
        for start in range(0, len(batch), step):
            part = slice(start, start + step)
            np.matmul(batch.features[part] - near, self.v_, out=answer[part])
        return answer - rest

    def _lost(self, batch: Batch) -> tuple[float, float]:
        """The squared lengths, summed over rows, of what projecting loses and of the (centred) rows."""
        moved, centre = self._projected(batch).astype(np.float64), self._centre()
        if batch.is_sparse:
            rows: Any = batch.features.astype(np.float64)
            whole = rows.multiply(rows).sum() - 2 * (rows @ centre).sum() + len(batch) * (centre @ centre)
            return max(0.0, float(whole - (moved**2).sum())), float(whole)
        lost = whole = 0.0
        step = max(1, SLICE // batch.width)
        for start in range(0, len(batch), step):
            part = slice(start, start + step)
            rows = batch.features[part] - centre
            whole += float((rows**2).sum())
            lost += float(((rows - moved[part] @ self.v_.T) ** 2).sum())
        return lost, whole

    def _centre(self) -> np.ndarray:
        return self.mean_ if self.settings["subtract_mean"] else np.zeros_like(self.mean_)

    def arrays(self) -> Mapping[str, np.ndarray]:
        return {"mean": self.mean_[None, :], "v": self.v_, "s": self.s_}

    def facts(self) -> Mapping[str, Any]:
        return {"rows": self.rows_, "sum_of_squares": self.total_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        mean, v, s = arrays["mean"].astype(np.float64), arrays["v"].astype(np.float32), arrays["s"].astype(np.float64)
        if mean.ndim != 2 or mean.shape[0] != 1 or v.shape != (mean.shape[1], len(s)) or s.ndim != 1:
            raise ValueError(f"arrays mean {mean.shape}, v {v.shape} and s {s.shape} do not belong together")
        if not all(np.isfinite(array).all() for array in (mean, v, s)):
            raise ValueError("arrays hold NaN or infinity")
        self.mean_, self.v_, self.s_ = mean[0], np.ascontiguousarray(v), s
        self.rows_, self.total_ = int(facts["rows"]), float(facts["sum_of_squares"])

    # -- scikit-learn's names ----------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """As `Estimator.fit`; rows have no weights and no groups."""
        for name in {"sample_weight", "group"} & channels.keys():
            raise TypeError(f"PCA.fit() got an unexpected keyword argument {name!r}")
        return super().fit(X, run=run, **channels)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # projections are in single precision, like SageMaker's
        return tags

    def transform(self, X: Any) -> np.ndarray:
        """The projections, (n, components); the last column is the first principal component."""
        return np.asarray(self.predict(X))

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """`fit`, then `transform` of the same rows."""
        return self.fit(X, y, **fit_params).transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The share of the rows' variance that their projections keep: `test explained_variance` of a job's log."""
        self.predict(X)
        channel = self.channel_of("score", X)
        lost, whole = np.sum([self._lost(batch) for batch in channel.batches()], axis=0)
        return float(1 - lost / whole) if whole else 1.0

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows from projections: (n, components) to (n, d)."""
        rows = np.asarray(X, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.s_):
            raise ValueError(f"projections have shape {rows.shape}, expected (n, {len(self.s_)})")
        return np.asarray(rows @ self.v_.T + self._centre())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`pca0`, `pca1`, …"""
        return np.array([f"pca{number}" for number in range(len(self.s_))], dtype=object)

    @property
    def components_(self) -> np.ndarray:
        """The components as rows, (components, d), in the order of the projections: the largest last."""
        return np.asarray(self.v_.T)

    @property
    def singular_values_(self) -> np.ndarray:
        """Singular values of the (centred) data, ascending."""
        return np.asarray(self.s_)

    @property
    def explained_variance_(self) -> np.ndarray:
        """The variance along each component, with n - 1 in the denominator."""
        return np.asarray(self.s_**2 / max(1, self.rows_ - 1))

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """The share of all variance along each component."""
        return self.s_**2 / self.total_ if self.total_ else np.zeros_like(self.s_)


def _memory() -> float:
    """Bytes of this host's memory."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return math.inf


__all__ = ["PCA"]
