"""Descent: a model in training on one host: its parameters, Adam's memory, and the room that a mini-batch needs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sagesmith.algorithms.factorization_machines import descent_compiled as machine
from sagesmith.algorithms.factorization_machines.descent_compiled import Gradient, Model, Moments, Rates, Rows
from sagesmith.algorithms.lanes_compiled import LANES

SEED = 0  # SageMaker offers none; every training starts from the same numbers
THREADS_FROM = 1 << 19  # multiplications in a mini-batch from which threads gain more than their meeting costs
AT_ONCE = 256 << 20  # multiplications between two looks at whether the job was asked to stop
UNIFORM_SCALE, CONSTANT_VALUE = 0.07, 0.0  # MXNet's own, where SageMaker's default is "none"


def initial(settings: Mapping[str, Any], width: int) -> Model:
    """Parameters as `*_init_method`, `_sigma`, `_scale` and `_value` ask; without a bias or linear part, zeros there.

    Raises:
        ValueError: more parameters than this computer has memory for.
    """
    random = np.random.default_rng(SEED)
    k = settings["num_factors"]
    k8 = -(-k // LANES) * LANES
    _check_memory(width, k, 4 * width * k8)
    w0, w = np.zeros(1, np.float32), np.zeros(width, np.float32)
    v = np.zeros((width, k8), np.float32)
    if settings["use_bias"]:
        w0[:] = _drawn(settings, "bias", random, (1,))
    if settings["use_linear"]:
        w[:] = _drawn(settings, "linear", random, (width,))
    step = max(1, (1 << 20) // k)
    for start in range(0, width, step):  # in blocks: nothing as large as v beside v
        stop = min(width, start + step)
        v[start:stop, :k] = _drawn(settings, "factors", random, (stop - start, k))
    return Model(w0, w, v)


def _check_memory(width: int, k: int, needed: int) -> None:
    """Linux promises memory that it does not have and kills who then uses it: so that is looked at before."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"feature_dim {width} times num_factors {k}: the factors take {needed / 2**30:.1f} GiB, "
            f"this computer has {there / 2**30:.1f}"
        )


def _drawn(settings: Mapping[str, Any], part: str, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    method = settings[f"{part}_init_method"]
    if method == "normal":
        return random.standard_normal(shape, np.float32) * np.float32(settings[f"{part}_init_sigma"])
    if method == "uniform":
        scale = settings[f"{part}_init_scale"]
        return (2 * random.random(shape, np.float32) - 1) * np.float32(UNIFORM_SCALE if scale is None else scale)
    value = settings[f"{part}_init_value"]
    return np.full(shape, CONSTANT_VALUE if value is None else value, np.float32)


def widened(w0: np.ndarray, w: np.ndarray, v: np.ndarray) -> Model:
    """A model of v (d, k), with columns of zeros up to a multiple of LANES."""
    rest = -v.shape[1] % LANES
    return Model(w0, w, np.pad(v, ((0, 0), (0, rest))) if rest else v)


def rates_of(settings: Mapping[str, Any]) -> Rates:
    """Learning rates and decays times the multipliers `_learning_rate` and `_wd`; parts not used do not learn."""
    rate, decay = settings["learning_rate"], settings["wd"]
    used = {"bias": settings["use_bias"], "linear": settings["use_linear"], "factors": True}
    rescale, clip, eps = settings["rescale_grad"], settings["clip_gradient"], settings["eps"]
    return Rates(
        **{f"{part}_lr": float(settings[f"{part}_lr"] * rate * learns) for part, learns in used.items()},
        **{f"{part}_wd": float(settings[f"{part}_wd"] * decay) for part in used},
        rescale=np.nan if rescale is None else float(rescale),
        clip=np.inf if clip is None or clip <= 0 else float(clip),
        eps=1e-8 if eps is None else float(eps),
    )


class Descent:
    """Adam over mini-batches. The model does not depend on `threads`.

    Args:
        settings: the hyperparameters.
        width: features.
        threads: processors to use.
    """

    def __init__(self, settings: Mapping[str, Any], width: int, threads: int) -> None:
        self.size: int = settings["mini_batch_size"]
        self.binary: bool = settings["predictor_type"] == "binary_classifier"
        self.rates = rates_of(settings)
        self.model = initial(settings, width)
        k8 = self.model.v.shape[1]
        self.moments = Moments(
            np.zeros(2), np.zeros((width, 2), np.float32), np.zeros((width, 2 * k8), np.float32), np.zeros(1, np.int64)
        )
        self.slots = np.full(width, -1, np.int32)
        self.threads = max(1, threads)
        self.sums, self.slope = np.empty((0, k8), np.float32), np.empty(0, np.float32)
        self.gradients: list[Gradient] = []
        self._pool: ThreadPoolExecutor | None = None

    def over(self, rows: Rows) -> Iterator[np.ndarray]:
        """Learns from rows, and yields a table (mini-batches, TALLY) of their losses whenever a while has passed."""
        count = len(rows.label)
        most = self._most(rows)
        parts = self.threads if most >= THREADS_FROM else 1
        self.make_room(rows, parts)
        score = np.empty(count, np.float32)
        batches = self.size * max(1, AT_ONCE // max(1, most))
        for first in range(0, count, batches):
            last = min(count, first + batches)
            tallies = np.zeros((-(-(last - first) // self.size), machine.TALLY))
            if parts == 1:
                machine.descend(
                    rows, first, last, self.size, self.binary, self.model, self.moments, self.rates,
                    self.slots, self.gradients[0], self.sums, score, self.slope, tallies,
                )  # fmt: skip
            else:
                for number, start in enumerate(range(first, last, self.size)):
                    stop = min(last, start + self.size)
                    self._shared(rows, start, stop, score, tallies[number], parts)
            yield tallies

    def _most(self, rows: Rows) -> int:
        """Multiplications in the largest mini-batch, about."""
        return self.entries(rows) * int(self.model.v.shape[1])

    def entries(self, rows: Rows) -> int:
        """Non-zeros in the largest mini-batch."""
        edges = np.append(rows.starts[: -1 : self.size], rows.starts[-1])
        return int(np.diff(edges).max(initial=0))

    def make_room(self, rows: Rows, parts: int = 1) -> None:
        """For the sums of a mini-batch and for the gradients of `parts` parts of the features."""
        size, (width, k8) = min(self.size, len(rows.label)), self.model.v.shape
        if len(self.sums) < size:
            self.sums, self.slope = np.empty((size, k8), np.float32), np.empty(size, np.float32)
        needed = min(width, self.entries(rows))
        if len(self.gradients) < parts or len(self.gradients[0].feature) < needed:
            self.gradients = [empty_gradient(needed, k8) for _ in range(max(parts, len(self.gradients)))]

    def _shared(self, rows: Rows, start: int, stop: int, score: np.ndarray, tally: np.ndarray, parts: int) -> None:
        """One mini-batch, shared among threads: first its rows, then its features."""
        cuts = np.linspace(start, stop, parts + 1).astype(int).tolist()

        def look(part: int) -> None:
            machine.forward(rows, cuts[part], cuts[part + 1], start, self.model, self.sums, score)

        self._each(look, parts)
        bias = machine.slopes(rows, start, stop, self.binary, score, self.slope, tally)
        scale, pace = machine.step_bias(bias, stop - start, self.model, self.moments, self.rates)

        def learn(part: int) -> None:
            own = self.gradients[part]
            count = machine.backward(rows, start, stop, self.slope, self.sums, self.slots, own, part, parts)
            machine.step(count, own, self.slots, self.model, self.moments, self.rates, scale, pace)

        self._each(learn, parts)

    def _each(self, work: Callable[[int], None], parts: int) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(parts - 1, thread_name_prefix="factorization machine")
        others = [self._pool.submit(work, part) for part in range(1, parts)]
        work(0)
        for other in others:
            other.result()

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def empty_gradient(features: int, k8: int) -> Gradient:
    """Room for the gradients of so many features."""
    return Gradient(
        np.empty(features, np.int32), np.empty((features, 2), np.float32), np.empty((features, k8), np.float32)
    )


def predictions(rows: Rows, model: Model, threads: int) -> np.ndarray:
    """ŷ of each row, (n,) float32."""
    count = len(rows.starts) - 1
    score = np.empty(count, np.float32)
    parts = threads if len(rows.keys) * model.v.shape[1] >= THREADS_FROM else 1
    if parts == 1:
        machine.predict(rows, 0, count, model, score)
        return score
    cuts = np.linspace(0, count, parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(parts) as pool:
        for one in [pool.submit(machine.predict, rows, *cut, model, score) for cut in itertools.pairwise(cuts)]:
            one.result()
    return score
