"""IP Insights learns what it says: gradients, Adam, negatives, the AUC, and every hyperparameter has its effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sagesmith.algorithms import IPInsights
from sagesmith.algorithms.ipinsights import training as module
from sagesmith.algorithms.ipinsights.judging import discriminator_auc, negatives
from sagesmith.algorithms.ipinsights.network import Network
from sagesmith.algorithms.ipinsights.pairs import addresses_of
from sagesmith.algorithms.ipinsights.steps_compiled import ordered
from sagesmith.algorithms.ipinsights.threads import Workers
from sagesmith.algorithms.ipinsights.training import Plan, Training
from sagesmith.algorithms.run import Run
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.ipinsights_pairs import drawn

Arrays = dict[str, np.ndarray]


def network(layers: int, width: int = 4, entities: int = 6) -> Network:
    random = np.random.default_rng(3)
    made = Network.drawn(entities, width, layers, random)
    made.prefixes[:] = random.normal(size=made.prefixes.shape)
    made.biases[:] = random.normal(size=made.biases.shape)
    return made


def loss_of(arrays: Arrays, keys: Any, slots: np.ndarray, groups: list[np.ndarray]) -> float:
    """The mean cross-entropy in float64, written down plainly. `groups`: real addresses first, then negative ones."""
    total = 0.0
    for number, ips in enumerate(groups):
        for slot, ip in zip(slots, ips, strict=True):
            h = sum(arrays["prefixes"][key] for key in keys(np.array([ip], np.uint32))[:, 0])
            for weight, bias in zip(arrays["weights"], arrays["biases"], strict=True):
                h = h + np.maximum(h, 0) @ weight + bias
            score = float(arrays["entities"][slot] @ h)
            total += np.logaddexp(0, -score if number == 0 else score)
    return total / (len(slots) * len(groups))


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("at_once", [1 << 24, 1])  # 1: every random negative in a turn of its own
def test_gradients_are_those_of_finite_differences(layers: int, at_once: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    random = np.random.default_rng(5)
    rows = 5
    slots, ips = np.array([0, 3, 3, 5, 1], np.int32), random.integers(0, 1 << 32, rows, np.uint32)
    ips[1] = ips[0] + 1
    others, shifts = random.integers(0, 1 << 32, 2 * rows, np.uint32), np.array([1, 3])
    made = network(layers)
    before = {name: array.astype(float) for name, array in made.arrays().items()}
    training = Training(made, Plan(0.01, 0.0, 2, 2), random, Workers(1))
    training._time = 1
    judged = training._learn(slots, ips, others, shifts)
    groups = [ips, others[:rows], others[rows:], np.roll(ips, -1), np.roll(ips, -3)]
    expected = loss_of(before, made.prefix_slots, slots, groups)
    assert judged.pairs == 25
    assert judged.loss / judged.pairs == pytest.approx(expected, rel=1e-5)
    touched = np.unique(made.prefix_slots(np.concatenate([ips, others])))
    places = {"entities": [0, 3, 2], "prefixes": [*touched[::7], touched[-1]], "weights": range(layers)}
    for name, indices in (places | {"biases": range(layers)}).items():
        for index in indices:
            at = (index, *random.integers(0, 4, before[name].ndim - 1))
            slope = []
            for step in (1e-5, -1e-5):
                moved = {key: array.copy() for key, array in before.items()}
                moved[name][at] += step
                slope.append(loss_of(moved, made.prefix_slots, slots, groups))
            numeric = (slope[0] - slope[1]) / 2e-5 * 25 / rows  # a row's pairs are summed
            assert training._moments[name][0][at] / 0.1 == pytest.approx(numeric, rel=2e-3, abs=1e-5), (name, at)


def test_a_step_is_adams_and_lazy() -> None:
    made = network(1)
    random = np.random.default_rng(0)
    before = {name: array.copy() for name, array in made.arrays().items()}
    training = Training(made, Plan(0.01, 0.5, 1, 1), random, Workers(1))
    training.step(np.array([1, 2, 1], np.int32), np.array([1, 2, 3], np.uint32))
    for name in ("entities", "weights", "biases"):
        first, second = training._moments[name]
        moved = made.arrays()[name] - before[name]
        # At the first step Adam moves each number by the learning rate, against its gradient's sign.
        assert np.allclose(moved, -0.01 * np.sign(first), atol=1e-5), name
        assert np.allclose(second, 0.001 * (first / 0.1) ** 2, rtol=1e-3), name
    assert not (made.entities[[0, 3, 4, 5]] - before["entities"][[0, 3, 4, 5]]).any(), "rows of nobody stay"
    assert training._moments["entities"][0][0].max() == 0


def test_negatives_of_a_batch_are_never_a_rows_own_place() -> None:
    training = Training(network(0), Plan(0.01, 0, 0, 3), np.random.default_rng(0), Workers(1))
    seen = []
    training._learn = lambda slots, ips, drawn, shifts: seen.append(shifts)  # type: ignore[method-assign,assignment,func-returns-value]
    for rows in (2, 3, 4, 50):
        training.step(np.zeros(rows, np.int32), np.zeros(rows, np.uint32))
        assert len(seen[-1]) == 3
        assert seen[-1].min() >= 1
        assert seen[-1].max() < rows
    assert len(set(seen[-1].tolist())) == 3
    training.step(np.zeros(1, np.int32), np.zeros(1, np.uint32))
    assert len(seen[-1]) == 0, "a row alone has no other's address"


def test_the_sort_is_a_stable_argsort() -> None:
    for largest, size in ((3, 50), (2047, 500), (2048, 500), (249_999_999, 3000)):
        keys = np.random.default_rng(size).integers(0, largest + 1, size).astype(np.int32)
        order, spare = np.empty(size, np.int32), np.empty(size, np.int32)
        ordered(keys, largest, order, spare)
        assert np.array_equal(order, np.argsort(keys, kind="stable")), largest


def test_the_auc_is_scikit_learns() -> None:
    table = drawn(300)
    model = IPInsights(**IPInsights.example).fit(table)
    ips = addresses_of(table[:, 1])
    slots = np.repeat(np.arange(30, dtype=np.int32), 10)
    made = model.network_
    groups = list(negatives(ips, 2, 1))
    assert len(groups) == 3
    truth = np.repeat([1, 0, 0, 0], 300)
    scores = np.concatenate([made.scores(slots, group) for group in (ips, *groups)])
    assert discriminator_auc(made, slots, ips, 2, 1, 1) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    made.entities[:] = 0
    assert discriminator_auc(made, slots, ips, 2, 1, 1) == 0.5, "ties count half"


def plain_model(table: np.ndarray, epochs: int, rate: float, rows: int) -> Any:
    """The same kind of model, written anew: float64, one table of exact prefixes, dense Adam, no layers."""
    random = np.random.default_rng(11)
    users, user = np.unique(table[:, 0], return_inverse=True)
    ips = addresses_of(table[:, 1]).astype(np.int64)
    E, P = random.normal(0, 0.1, (len(users), 16)), {}
    for bits in (8, 16, 24, 32):
        for prefix in set((ips >> (32 - bits)).tolist()):
            P[bits, prefix] = np.zeros(16)
    moments: dict[Any, list[np.ndarray]] = {}
    time = 0

    def vector(ip: int) -> np.ndarray:
        return np.sum([P.get((bits, ip >> (32 - bits)), np.zeros(16)) for bits in (8, 16, 24, 32)], axis=0)

    def move(key: Any, value: np.ndarray, gradient: np.ndarray) -> None:
        m, v = moments.setdefault(key, [np.zeros(16), np.zeros(16)])
        m += 0.1 * (gradient - m)
        v += 0.001 * (gradient**2 - v)
        value -= rate * m / (1 - 0.9**time) / (np.sqrt(v / (1 - 0.999**time)) + 1e-8)

    for _ in range(epochs):
        order = random.permutation(len(user))
        for begin in range(0, len(user), rows):
            batch = order[begin : begin + rows]
            time += 1
            gradients: dict[Any, np.ndarray] = {}
            others = [random.integers(0, 1 << 32, len(batch)), ips[random.permutation(batch)]]
            for k, group in enumerate([ips[batch], *others]):
                for u, ip in zip(user[batch], group.tolist(), strict=True):
                    h = vector(ip)
                    slope = (1 / (1 + np.exp(-E[u] @ h)) - (k == 0)) / (3 * len(batch))
                    gradients[u] = gradients.get(u, 0) + slope * h
                    for bits in (8, 16, 24, 32):
                        key = (bits, ip >> (32 - bits))
                        if key in P:
                            gradients[key] = gradients.get(key, 0) + slope * E[u]
            for key, gradient in gradients.items():
                move(key, P[key] if isinstance(key, tuple) else E[key], gradient)
    return lambda rows: [E[np.searchsorted(users, u)] @ vector(int(ip)) for u, ip in
                         zip(rows[:, 0], addresses_of(rows[:, 1]), strict=True)]  # fmt: skip


def test_the_auc_is_no_worse_than_a_plain_models() -> None:
    train, test = drawn(1500), drawn(400, seed=4)
    pairs = np.concatenate([test, np.column_stack([test[:, 0], np.roll(test[:, 1], 7)])])
    truth = np.repeat([1, 0], len(test))
    ours = IPInsights(num_entity_vectors=4000, vector_dim=16, epochs=6, learning_rate=0.02, mini_batch_size=100).fit(
        train
    )
    plain = plain_model(train, 6, 0.02, 100)
    found = roc_auc_score(truth, ours.predict(pairs))
    assert found > 0.9
    assert found >= roc_auc_score(truth, plain(pairs)) - 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"num_entity_vectors": 60}, {"vector_dim": 9}, {"epochs": 3}, {"learning_rate": 0.04}, {"mini_batch_size": 31},
        {"num_ip_encoder_layers": 0}, {"num_ip_encoder_layers": 2}, {"random_negative_sampling_rate": 2},
        {"random_negative_sampling_rate": 0}, {"shuffled_negative_sampling_rate": 2}, {"weight_decay": 0.1},
        {"seed": 1},
    ],
    ids=str,
)  # fmt: skip
def test_hyperparameters_have_their_effect(change: dict[str, Any]) -> None:
    table = drawn(150)
    plain = IPInsights(**IPInsights.example).fit(table).predict(table)
    changed = IPInsights(**{**IPInsights.example, **change}).fit(table).predict(table)
    assert not np.array_equal(plain, changed)


def test_weight_decay_makes_vectors_short() -> None:
    table = drawn(300)
    norms = [
        np.linalg.norm(IPInsights(**{**IPInsights.example, "weight_decay": decay}).fit(table).network_.entities)
        for decay in (0, 1e-2, 1)
    ]
    assert norms[0] > norms[1] > norms[2]


def test_many_layers_learn() -> None:
    run = RecordingRun()
    settings = {"num_entity_vectors": 80, "vector_dim": 16, "learning_rate": 0.005, "mini_batch_size": 200}
    model = IPInsights(**settings, num_ip_encoder_layers=20, epochs=6)
    model.fit(drawn(2000), validation=drawn(500, seed=3), run=run)
    assert float([line for line in run.lines if "discriminator_auc <" in line][-1].rpartition("=")[2]) > 0.95


@pytest.mark.parametrize("rows", [150, 3000])
def test_the_number_of_threads_changes_nothing(rows: int) -> None:
    table = drawn(rows)
    settings = {**IPInsights.example, "mini_batch_size": 2000, "num_ip_encoder_layers": 2}
    models = [IPInsights(**settings).fit(table, run=Run(threads)) for threads in (1, 2, 3)]
    for model in models[1:]:
        assert np.array_equal(model.predict(table), models[0].predict(table))


def test_a_network_that_diverges_says_so() -> None:
    with pytest.raises(ValueError, match=r"learning_rate 10\.0 is too large"):
        IPInsights(**{**IPInsights.example, "learning_rate": 10.0, "num_ip_encoder_layers": 40}).fit(drawn(2000))


def test_being_asked_to_stop_leaves_what_was_learnt() -> None:
    class Stopping(RecordingRun):
        @property
        def stopping(self) -> bool:
            return any("cross_entropy" in line for line in self.lines)

    run = Stopping()
    model = IPInsights(**{**IPInsights.example, "epochs": 1000}).fit(drawn(200), run=run)
    assert len(model.predict(drawn(5))) == 5
    assert not [line for line in run.lines if "epoch=1" in line]
