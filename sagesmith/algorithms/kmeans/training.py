"""Training: one run of k-means over a stream, from the first rows to the k centers."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms.arrays import checked_features
from sagesmith.algorithms.kmeans.centers import Centers, weighted
from sagesmith.algorithms.kmeans.lloyd import Limits, refined, trials
from sagesmith.algorithms.kmeans.sample import MOST_BYTES, Sample, bytes_of_a_row
from sagesmith.algorithms.kmeans.seeding import first_centers
from sagesmith.algorithms.kmeans.summary import Summary
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch, join
from sagesmith.formats.errors import DataError

AUTO = 10  # what SageMaker's log shows for extra_center_factor and local_lloyd_num_trials
SAMPLED = 1024  # rows kept for each of the k clusters: a mean of so many adds a thousandth to the squared distance
LEAST_SAMPLED = 128  # with fewer, the sample's means are worse than those of the summary


class Training:
    """What is known while training lasts.

    Attributes:
        summary: this host's centers; None until the first rows came.
        union: the centers of all hosts after the last pass; None on a single host.
    """

    def __init__(self, settings: Mapping[str, Any], run: Run) -> None:
        self._settings, self._run, self._begun = settings, run, time.monotonic()
        factor = settings["extra_center_factor"]
        if factor == "auto":
            factor = AUTO
            run.log("'extra_center_factor' was set to 'auto', evaluated to %d.", factor)
        self.k, self.wanted = settings["k"], settings["k"] * factor
        run.log("number of center slices %d", 1)
        if settings["num_slices"] != 1:
            run.log("Hyperparameter _num_slices has no effect: the centers are kept in one piece")
        if settings["disable_wait_to_read"]:
            run.log("Hyperparameter _disable_wait_to_read has no effect")
        self._random = np.random.default_rng((0, run.rank))
        self.summary: Summary | None = None
        self.union: Summary | None = None
        self._sample: Sample | None = None
        self._sampled = factor > 1

    def passing(self, batches: Iterable[Batch], quiet: bool) -> Iterator[Batch]:
        """One pass; the very first batch is grown until it holds a row for each center, if there are so many."""
        if self.summary is not None:
            self.summary.new_pass()
            if self._sample is not None:
                self._sample.new_pass()
            yield from batches
            return
        waiting: list[Batch] = []
        found = iter(batches)
        for batch in found:
            waiting.append(batch)
            if sum(map(len, waiting)) >= self.wanted:
                break
        if waiting:
            self._warn(waiting, logging.INFO if quiet else logging.WARNING)
            yield join(waiting)
            yield from found

    def _warn(self, first: list[Batch], level: int) -> None:
        rows, wished = sum(map(len, first)), self._settings["mini_batch_size"]
        if len(first[0]) < wished:
            text = "mini_batch_size is %d, but the first batch has only %d rows: the centers are chosen from these"
            self._run.log(text, wished, len(first[0]), level=level)
        if len(first) > 1:
            text = "The first batch of %d rows holds fewer than the %d centers: the first %d rows were read as one"
            self._run.log(text, len(first[0]), self.wanted, rows, level=level)
        if rows < self.wanted:
            text = "The data have %d rows, fewer than the %d centers that were to be kept: every row begins as one"
            self._run.log(text, rows, self.wanted, level=level)

    def update(self, batch: Batch) -> None:
        """One mini-batch.

        Raises:
            ValueError: NaN or infinity among the features, which the sum of distances tells of.
        """
        half_life = self._settings["half_life_time_size"]
        if self.summary is None:
            self._begin(batch, half_life)
        assert self.summary is not None, "begun"
        self.summary.update(batch.features, batch.weight, half_life, self._run.threads)
        if not np.isfinite(self.summary.ssd):
            checked_features(batch.features, "KMeans", missing=False)
        if self._sample is not None:
            self._sample.offer(batch.features, batch.weight)

    def _begin(self, batch: Batch, half_life: int) -> None:
        method, number = self._settings["init_method"], min(self.wanted, len(batch))
        self.summary = Summary(first_centers(method, batch.features, batch.weight, number, self._random))
        size = min(SAMPLED * self.k, int(MOST_BYTES // bytes_of_a_row(batch.features)))
        if self._sampled and size >= LEAST_SAMPLED * self.k:
            self._sample = Sample(size, half_life, self._random)
        self._run.metrics("training", {"initialize.time": self.milliseconds()})

    def milliseconds(self) -> float:
        """Since the last call, or the beginning."""
        since, self._begun = self._begun, time.monotonic()
        return 1000 * (self._begun - since)

    def pack(self) -> bytes:
        """This host's summary and sample as npz; nothing when it has seen no rows."""
        if self.summary is None:
            return b""
        arrays: dict[str, Any] = self.summary.arrays()
        if self._sample is not None:
            arrays |= self._sample.arrays()
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    def unite(self, packed: Iterable[bytes]) -> None:
        """Takes the centers and samples of all hosts; this host's own go on beside them, with its own shard."""
        parts = [_unpacked(one) for one in packed if one]
        if parts:
            self.union = Summary.united(parts)
            self._all_samples = parts

    @property
    def known(self) -> Summary:
        """The centers of all hosts, or of the only one; raises DataError for no rows at all."""
        found = self.union or self.summary
        if found is None:
            where = " on any host" if len(self._run.hosts) > 1 else ""
            raise DataError(f"the train channel holds no rows{where}")
        return found

    def finish(self) -> tuple[np.ndarray, float, float]:
        """The k centers, (k, d) float64, the msd and the ssd of what they were made from to them.

        Raises:
            DataError: fewer rows than clusters.
        """
        known = self.known
        if known.rows < self.k:
            raise DataError(f"n_samples={known.rows} should be >= k={self.k}: there are fewer rows than clusters")
        if not self._sampled and len(known.centers) == self.k:
            self._run.log("extra_center_factor is 1: the centers are the model")
            return known.centers.points, known.ssd / known.weight, known.ssd
        points, weights = known.centers.points, known.counts
        centers = self._shrunk(points, weights)
        _, squares = Centers(centers).nearest(points.astype(np.float32), self._run.threads)
        ssd = weighted(squares, weights)
        return centers, ssd / float(weights.sum()), ssd

    def _shrunk(self, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
        run, settings = self._run, self._settings
        run.log("shrinking %d centers into %d", len(points), self.k)
        live = np.flatnonzero(weights > 0)
        if len(live) < self.k:
            run.log(
                "Only %d of %d centers were the nearest to any row: some clusters are empty", len(live), len(points)
            )
            return points[np.argsort(-weights, kind="stable")[: self.k]]
        limits = Limits(settings["local_lloyd_max_iter"], settings["local_lloyd_tol"], run.threads)
        method, number = settings["local_lloyd_init_method"], settings["local_lloyd_num_trials"]
        number = AUTO if number == "auto" else number
        distances, best = trials(points.astype(np.float32)[live], weights[live], self.k, method, number, limits)
        for attempt, msd in enumerate(distances):
            run.log("local kmeans attempt #%d. Current mean square distance %f", attempt, msd)
        centers = best[0]
        run.log("finished shrinking process. Mean Square Distance = %r", min(distances))
        sample = self._united_sample()
        if sample is not None:
            rows, shares = sample.drawn()
            centers, msd = refined(best, rows, shares, limits)
            run.log("refined on %d of %d rows. Mean Square Distance = %r", len(shares), sample.seen, msd)
        return centers

    def _united_sample(self) -> Sample | None:
        if self.union is None:
            return self._sample
        return Sample.united(self._all_samples, self.union.centers.width)


def _unpacked(packed: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
