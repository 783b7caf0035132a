"""Training: Adam on the cross-entropy of real pairs against negative ones, a batch at a time.

A row's negatives are the entity with R uniformly random addresses and with the addresses of S other rows of the batch:
of the rows `shift` further on, around the end, which is a permutation of the batch's addresses without fixed points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sagesmith.algorithms.ipinsights import steps_compiled as steps
from sagesmith.algorithms.ipinsights.network import Network
from sagesmith.algorithms.ipinsights.threads import Workers

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # the paper's
BLOCK = 512  # rows that go through all layers while they are in the cache
PARTS = 8  # in which gradients of weights are summed, whatever the number of threads, so that sums are the same
AT_ONCE = 1 << 24  # numbers in the vectors that are encoded at once: random negatives beyond that come in turns
_DIVERGING = np.errstate(over="ignore", invalid="ignore")  # the epoch's loss tells, in words


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of a step."""

    learning_rate: float
    weight_decay: float
    random_negatives: int
    shuffled_negatives: int


@dataclass(frozen=True)
class Judged:
    """What a batch was like before its step: summed cross-entropy, pairs on the right side of 0, pairs."""

    loss: float
    right: int
    pairs: int

    def __add__(self, other: Judged) -> Judged:
        return Judged(self.loss + other.loss, self.right + other.right, self.pairs + other.pairs)


class Training:
    """A network, the moments of its gradients, and the randomness of its negatives."""

    def __init__(self, network: Network, plan: Plan, random: np.random.Generator, workers: Workers) -> None:
        self.network, self.plan, self.random, self.workers = network, plan, random, workers
        self._time = 0
        self._moments = {name: (np.zeros_like(array), np.zeros_like(array)) for name, array in network.arrays().items()}
        self._room: dict[str, np.ndarray] = {}
        self._sums: tuple[np.ndarray, np.ndarray] | None = None  # of a batch in several turns: gradients, touched rows
        self.counts: dict[str, np.ndarray] = {}  # steps of each row, where several hosts ask for them

    def step(self, slots: np.ndarray, ips: np.ndarray) -> Judged:
        """One batch: entity rows (B,) int32 and addresses (B,) uint32."""
        rows, plan = len(slots), self.plan
        shuffled = plan.shuffled_negatives if rows > 1 else 0  # a row alone has no other's address
        shifts = 1 + self.random.choice(rows - 1, shuffled, replace=shuffled >= rows) if shuffled else np.empty(0, int)
        drawn = self.random.integers(0, 1 << 32, rows * plan.random_negatives, np.uint32)
        self._time += 1
        return self._learn(slots, ips, drawn, shifts)

    @_DIVERGING
    def _learn(self, slots: np.ndarray, ips: np.ndarray, drawn: np.ndarray, shifts: np.ndarray) -> Judged:
        rows, width = len(slots), self.network.entities.shape[1]
        pairs = rows * (1 + len(shifts)) + len(drawn)
        scale = np.float32(1 / rows)  # as MXNet's modules: a row's pairs are summed, rows averaged
        losses, right = np.empty(rows), np.empty(rows, np.int64)
        back = self._array("back", rows, width)
        slopes = np.empty((rows, 1 + len(shifts)), np.float32)
        turn = max(1, AT_ONCE // width // rows - 1) * rows
        dense = np.zeros((PARTS, len(self.network.weights), width + 1, width), np.float32)
        for at in range(0, max(1, len(drawn)), turn):
            own = at == 0  # the batch's own addresses go with the first turn
            addresses = np.concatenate([ips, drawn[:turn]]) if own else drawn[at : at + turn]
            keys, states = self._forward(addresses)
            vectors, gradient = states[-1], self._array("gradient", len(addresses), width)
            entities = self.network.entities
            if own:
                judged = (entities, slots, vectors[:rows], shifts, scale, slopes, losses, right, back)
                self.workers.each(steps.real_and_shuffled, rows, *judged)
                self.workers.each(steps.back_to_addresses, rows, entities, slots, shifts, slopes, gradient[:rows])
            begin = rows if own else 0
            others = (entities, slots, vectors[begin:], scale, losses, right, back, gradient[begin:])
            if len(vectors) > begin:
                self.workers.each(steps.random_negatives, rows, *others)
            self._backward(states, gradient, dense)
            self._prefixes(keys, gradient, at + turn >= len(drawn))
        self._step("entities", slots, back)
        self._dense(dense.sum(axis=0))
        return Judged(float(losses.sum()), int(right.sum()), pairs)

    def _forward(self, addresses: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Prefix slots (4, K), and the states of the encoder before, between and after its layers, each (K, d)."""
        network, count = self.network, len(addresses)
        keys = network.prefix_slots(addresses)
        width = network.prefixes.shape[1]
        states = [self._array(f"state {layer}", count, width) for layer in range(len(network.weights) + 1)]
        active = self._array("active", count, width)

        @_DIVERGING
        def work(_: int, begin: int, end: int) -> None:
            for at in range(begin, end, BLOCK):
                rows = slice(at, min(at + BLOCK, end))
                steps.sum_of_prefixes(rows.start, rows.stop, network.prefixes, keys, states[0])
                for weight, bias, state, after in zip(
                    network.weights, network.biases, states, states[1:], strict=False
                ):
                    steps.rectified(rows.start, rows.stop, state, active)
                    np.matmul(active[rows], weight, out=after[rows])
                    steps.add_layer(rows.start, rows.stop, state, bias, after)

        self.workers.parts(work, count, self.workers.threads, BLOCK)
        return keys, states

    def _backward(self, states: list[np.ndarray], gradient: np.ndarray, dense: np.ndarray) -> None:
        """Takes `gradient` (K, d) from behind the layers to before them, and adds those of weights and biases to the
        parts of `dense`, (parts, L, d + 1, d)."""
        weights = self.network.weights
        count, width = gradient.shape
        active, back = self._array("active", count, width), self._array("passed back", count, width)

        @_DIVERGING
        def work(part: int, begin: int, end: int) -> None:
            for at in range(begin, end, BLOCK):
                rows = slice(at, min(at + BLOCK, end))
                for layer in reversed(range(len(weights))):
                    steps.rectified(rows.start, rows.stop, states[layer], active)
                    dense[part, layer, :-1] += active[rows].T @ gradient[rows]
                    dense[part, layer, -1] += gradient[rows].sum(axis=0)
                    np.matmul(gradient[rows], weights[layer].T, out=back[rows])
                    steps.add_rectified(rows.start, rows.stop, back, states[layer], gradient)

        if len(weights):
            self.workers.parts(work, count, PARTS, BLOCK)

    def _prefixes(self, keys: np.ndarray, gradient: np.ndarray, last: bool) -> None:
        """Moves the rows of prefixes; or, until the last turn of a batch, adds their gradients up."""
        if last and self._sums is None:
            self._step("prefixes", keys.reshape(-1), gradient)
            return
        if self._sums is None:
            self._sums = np.zeros_like(self.network.prefixes), np.zeros(len(self.network.prefixes), bool)
        sums, touched = self._sums
        order, starts, runs = self._grouped(keys.reshape(-1), len(sums))
        self.workers.each(steps.add_up, runs, keys.reshape(-1), order, starts, gradient, sums)
        touched[keys] = True
        if last:
            rows = np.flatnonzero(touched).astype(np.int32)
            self._step("prefixes", rows, sums[rows])
            self._sums = None

    def _step(self, name: str, keys: np.ndarray, gradient: np.ndarray) -> None:
        """Adam for the rows `keys` of a table; element k of them has gradient[k mod len(gradient)]."""
        table = getattr(self.network, name)
        order, starts, runs = self._grouped(keys, len(table))
        arguments = (keys, order, starts, gradient, table, *self._moments[name], *self._pace())
        self.workers.each(steps.adam, runs, *arguments)
        if name in self.counts:
            self.counts[name][keys[order[starts[:runs]]]] += 1

    def _grouped(self, keys: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Elements in the order of their keys, where each run of equal keys begins, and the number of runs."""
        order, spare = np.empty(len(keys), np.int32), np.empty(len(keys), np.int32)
        steps.ordered(keys, rows - 1, order, spare)
        starts = np.empty(len(keys) + 1, np.int64)
        return order, starts, steps.starts_of(keys, order, starts)

    def _pace(self) -> tuple[float, float, float, float, float, float]:
        rate = self.plan.learning_rate / (1 - BETA_1**self._time)
        return rate, 1 / (1 - BETA_2**self._time), self.plan.weight_decay, BETA_1, BETA_2, EPSILON

    def _dense(self, gradients: np.ndarray) -> None:
        """Adam for weights and biases, of (L, d + 1, d) gradients."""
        for name, found in (("weights", gradients[:, :-1]), ("biases", gradients[:, -1])):
            table = getattr(self.network, name)
            rows = table.reshape(-1, table.shape[-1])
            first, second = (moment.reshape(rows.shape) for moment in self._moments[name])
            each, starts = np.arange(len(rows), dtype=np.int32), np.arange(len(rows) + 1)
            arguments = (each, each, starts, np.ascontiguousarray(found).reshape(rows.shape), rows, first, second)
            self.workers.each(steps.adam, len(rows), *arguments, *self._pace())

    def _array(self, name: str, rows: int, width: int) -> np.ndarray:
        """Memory used again from batch to batch: fresh pages cost as much as filling them."""
        kept = self._room.get(name)
        if kept is None or len(kept) < rows:
            kept = self._room[name] = np.empty((rows, width), np.float32)
        return kept[:rows]
