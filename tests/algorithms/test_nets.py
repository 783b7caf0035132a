"""nets: the same steps on one host and on two, optimisers by name, the best weights, weights as arrays."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sagesmith.algorithms import nets
from sagesmith.algorithms.replicas import Precision, gradients_of, take_gradients
from sagesmith.container.distributed import _free_port
from sagesmith.testing.check_algorithm import RecordingRun

GANG = """
import os
import sys
import numpy as np
import torch
from sagesmith.algorithms import nets
from sagesmith.algorithms.replicas import Precision, gradients_of, take_gradients
from sagesmith.algorithms.run import Run

rank, size, port, out = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
run = Run(threads=1)
run.hosts = tuple(f"algo-{k + 1}" for k in range(size))
run.host, run.port = run.hosts[rank], port
random = np.random.default_rng(0)
X = torch.from_numpy(random.normal(size=(60, 4)).astype(np.float32))
y = X @ torch.tensor([1.0, -2.0, 0.5, 0.0])
mine = [rows for rows in torch.arange(60).split(12)]
# a gang of two: each batch of 12 is shared as 8 and 4, and the second host has nothing of the last one
shares = mine if size == 1 else [rows[:8] if rank == 0 else rows[8:] for rows in mine]
if size == 2:
    shares = [*shares[:4], mine[4]] if rank == 0 else shares[:4]
team = nets.Team(run, seed=rank)
torch.manual_seed(0 if rank == 0 else 5)
network = team.copied(torch.nn.Linear(4, 1))
stepper = nets.Stepper(network, nets.optimizer("adam", network, 0.05, weight_decay=0.01), team, clip_norm=1.0)
for _ in range(3):
    for rows in team.rounds(shares):
        parts = [] if rows is None else [rows]
        stepper.learn(lambda copy, mine: (((copy(X[mine])[:, 0] - y[mine]) ** 2).mean(), len(mine)), parts)
means = []
for weight in (1.0, 3.0 * rank, 0.0):  # the second host's alone count; nobody's do
    norm = torch.nn.BatchNorm1d(1)
    norm.running_mean.fill_(rank + 1.0)
    team.average(norm, weight)
    means.append(norm.running_mean.item())
norm.running_mean.fill_(rank + 1.0)
means.append(team.copied(norm, size - 1).running_mean.item())
np.savez(out, total=team.total(rank + 1.0), means=means, **nets.weights_of(network))
team.close()
os._exit(0)  # as a job ends where torch is: gloo's threads may abort an ordinary exit
"""


def gang(tmp_path: Path, size: int) -> list[dict[str, np.ndarray]]:
    port = _free_port("127.0.0.1")
    files = [tmp_path / f"{size}-{rank}.npz" for rank in range(size)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", GANG, str(rank), str(size), str(port), str(file)],
            env=environment,
            stderr=subprocess.PIPE,
        )
        for rank, file in enumerate(files)
    ]
    errors = [child.communicate(timeout=120)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0] * size, errors
    return [dict(np.load(file)) for file in files]


def test_two_hosts_take_the_steps_of_one(tmp_path: Path) -> None:
    alone = gang(tmp_path, 1)[0]
    first, second = gang(tmp_path, 2)
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-4, atol=1e-5)
    assert (alone["total"], first["total"]) == (1.0, 3.0)
    assert [each["means"].tolist() for each in (first, second)] == [[1.5, 2.0, 1.0, 2.0], [1.5, 2.0, 2.0, 2.0]]


def descent(name: str, **options: float) -> list[float]:
    torch.manual_seed(1)
    network = nn.Linear(3, 1)
    X, team = torch.randn(64, 3), nets.Team(RecordingRun(), seed=0)
    target = X.sum(dim=1)
    chosen = nets.optimizer(name, network, options.pop("learning_rate", 0.05), options.pop("weight_decay", 0.0))
    stepper = nets.Stepper(network, chosen, team, **options)
    losses: list[float] = []

    def loss_of(copy: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        loss = ((copy(rows)[:, 0] - target) ** 2).mean()
        losses.append(float(loss.detach()))
        return loss, len(rows)

    for _ in range(40):
        stepper.learn(loss_of, [X])
    return losses


@pytest.mark.parametrize("name", nets.OPTIMIZERS)
def test_every_optimizer_descends(name: str) -> None:
    losses = descent(name)
    assert losses[-1] < losses[0]


def test_the_learning_rate_counts_save_for_adadelta() -> None:
    for name in nets.OPTIMIZERS:
        same = descent(name, learning_rate=0.01)[-1] == descent(name, learning_rate=0.1)[-1]
        assert same == (name == "adadelta")


def learnt(devices: int, parts: int) -> dict[str, np.ndarray]:
    """Weights after three steps of one batch of 12 rows in parts of several sizes."""
    torch.manual_seed(3)
    network, X = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(12, 3)
    team = nets.Team(RecordingRun(), seed=0, devices=[torch.device("cpu")] * devices)
    stepper = nets.Stepper(network, nets.optimizer("adam", network, 0.05, 0.1), team, clip_norm=0.5)

    def loss_of(copy: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        return ((copy(rows)[:, 0] - rows.sum(dim=1)) ** 2).mean(), len(rows)

    for _ in range(3):
        stepper.learn(loss_of, [X] if parts == 1 else X.split([7, 3, 2][:parts] if parts == 3 else [7, 5]))
    return nets.weights_of(network)


@pytest.mark.parametrize(("devices", "parts"), [(2, 2), (3, 3), (3, 2), (2, 1)])
def test_several_devices_take_the_steps_of_one(devices: int, parts: int) -> None:
    alone, together = learnt(1, 1), learnt(devices, parts)
    for name, weights in alone.items():
        np.testing.assert_allclose(together[name], weights, rtol=1e-5, atol=1e-6)


def test_a_step_copies_what_it_moves_and_spreading_all() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    cpu = torch.device("cpu")
    stepper = nets.Stepper(network, nets.optimizer("sgd", network, 0.1), nets.Team(RecordingRun(), devices=[cpu, cpu]))
    copy: Any = stepper.networks[1]
    with torch.no_grad():
        copy[0].weight.fill_(7.0)
    stepper.learn(lambda one, rows: (one(rows).square().mean(), len(rows)), [torch.ones(2, 2), torch.ones(1, 2)])
    assert torch.equal(copy[1].weight, network[1].weight)
    assert (copy[0].weight == 7.0).all()
    stepper.spread()
    assert torch.equal(copy[0].weight, network[0].weight)


def test_a_batch_is_shared_evenly_among_devices() -> None:
    cpu = torch.device("cpu")
    team = nets.Team(RecordingRun(), devices=[cpu] * 3)
    assert [rows.tolist() for rows, _ in team.shared(np.arange(7))] == [[0, 1, 2], [3, 4], [5, 6]]
    assert [rows.tolist() for rows, _ in team.shared(np.arange(7), least=3)] == [[0, 1, 2, 3], [4, 5, 6]]
    assert [rows.tolist() for rows, _ in team.shared(np.arange(2), least=3)] == [[0, 1]]
    assert team.shared(np.arange(2))[0][1] == cpu
    assert team.cuts(4) == [(slice(0, 2), cpu), (slice(2, 3), cpu), (slice(3, 4), cpu)]


def test_drawing_goes_on_where_it_was() -> None:
    team = nets.Team(RecordingRun(), seed=5)
    reached, first = team.random(), torch.rand(4)
    assert not torch.equal(torch.rand(4), first)
    team.take_random(reached | {"cuda:7": np.zeros(4, np.uint8)})  # a device that is no longer there
    assert torch.equal(torch.rand(4), first)


def test_gradients_are_laid_out_as_weights() -> None:
    """Fused optimisers go through memory: a gradient in another order would move other weights."""
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.weight.grad = torch.arange(108.0).view_as(network.weight)
    before = network.weight.detach().clone()
    take_gradients(list(network.parameters()), gradients_of(list(network.parameters())))
    assert network.weight.grad.stride() == network.weight.stride()
    nets.optimizer("sgd", network, 1.0).step()
    torch.testing.assert_close(network.weight.detach(), before - torch.arange(108.0).view(4, 3, 3, 3))


def test_statistics_of_several_devices_are_averaged() -> None:
    network, device = nn.BatchNorm1d(2, momentum=1.0), torch.device("cpu")
    team = nets.Team(RecordingRun(), devices=[device, device])
    stepper = nets.Stepper(network, nets.optimizer("sgd", network, 0.0), team)
    parts = [torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[5.0, 1.0], [9.0, 1.0]])]
    for _ in range(2):  # the copies begin alike again
        stepper.learn(lambda copy, rows: (copy(rows).sum(), len(rows)), parts)
        stepper.share_statistics()
        np.testing.assert_allclose(network.running_mean, [4.5, 0.5])
        np.testing.assert_allclose(network.running_var, [5.0, 0.0])


def test_statistics_of_a_device_that_had_nothing_to_learn_do_not_count() -> None:
    network, device = nn.BatchNorm1d(2, momentum=1.0), torch.device("cpu")
    team = nets.Team(RecordingRun(), devices=[device, device])
    stepper = nets.Stepper(network, nets.optimizer("sgd", network, 0.0), team)
    for _ in range(2):
        stepper.learn(lambda copy, rows: (copy(rows).sum(), len(rows)), [torch.tensor([[1.0, 0.0], [3.0, 0.0]])])
        stepper.share_statistics()
        np.testing.assert_allclose(network.running_mean, [2.0, 0.0])


def test_copies_follow_the_networks_mode() -> None:
    network, device, seen = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)).eval(), torch.device("cpu"), []
    team = nets.Team(RecordingRun(), devices=[device, device])
    stepper = nets.Stepper(network, nets.optimizer("sgd", network, 0.1), team)

    def loss_of(copy: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        seen.append([module.training for module in copy.modules()])
        return copy(rows).sum(), len(rows)

    for training in (True, False):
        network.train(training)[0].eval()
        stepper.learn(loss_of, [torch.ones(2, 1)] * 2)
    assert seen == [[True, False, True]] * 2 + [[False, False, False]] * 2


def test_nag_looks_ahead() -> None:
    """MXNet's rule: state = momentum x state + gradient; weight -= rate x (momentum x state + gradient)."""
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    stepper = nets.Stepper(network, nets.optimizer("nag", network, 0.1, 0.5, 0.9), nets.Team(RecordingRun()))
    weight, state = 1.0, 0.0
    for _ in range(3):
        gradient = 2 * weight + 0.5 * weight
        state = 0.9 * state + gradient
        weight -= 0.1 * (0.9 * state + gradient)
        stepper.learn(lambda copy, _: ((copy.weight**2).sum(), 1), [None])
        assert network.weight.item() == pytest.approx(weight)


@pytest.mark.parametrize("name", nets.OPTIMIZERS)
def test_biases_do_not_decay(name: str) -> None:
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(1.0)
        network.bias.fill_(1.0)
    stepper = nets.Stepper(network, nets.optimizer(name, network, 0.1, weight_decay=0.5), nets.Team(RecordingRun()))
    stepper.learn(lambda copy, _: ((copy.weight * 0).sum() + (copy.bias * 0).sum(), 1), [None])
    assert network.bias.tolist() == [1.0, 1.0]
    assert (network.weight < 1.0).all()


def test_learning_rates_by_steps_and_warm_up() -> None:
    rates = [nets.stepped(0.1, 0.5, (2, 4), epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    assert [nets.warmed(1.0, 3, done) for done in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    network = nn.Linear(1, 1)
    chosen = nets.optimizer("sgd", network, 0.1)
    nets.set_rate(chosen, 0.25)
    assert [group["lr"] for group in chosen.param_groups] == [0.25, 0.25]


def test_half_precision_on_a_cpu_is_bfloat16_and_said() -> None:
    run, network = RecordingRun(), nn.Linear(4, 1)
    team = nets.Team(run)
    precision = Precision("float16", team.device, run)
    stepper = nets.Stepper(network, nets.optimizer("sgd", network, 0.1), team, precision=precision)
    seen = []

    def loss_of(copy: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        answers = copy(rows)
        seen.append(answers.dtype)
        return answers.float().square().mean(), len(rows)

    before = network.weight.clone()
    stepper.learn(loss_of, [torch.ones(2, 4)])
    assert seen == [torch.bfloat16]
    assert network.weight.dtype == torch.float32
    assert not torch.equal(network.weight, before)
    assert any("bfloat16" in line for line in run.lines)


def test_that_adadelta_has_no_learning_rate_is_said() -> None:
    for name in nets.OPTIMIZERS:
        run, network = RecordingRun(), nn.Linear(1, 1)
        nets.Stepper(network, nets.optimizer(name, network, 0.1), nets.Team(run))
        assert any("learning_rate has no effect" in line for line in run.lines) == (name == "adadelta")


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ValueError, match="'lion': it must be one of sgd, nag, adam"):
        nets.optimizer("lion", nn.Linear(1, 1), 0.1)


@pytest.mark.parametrize("options", [{"clip_value": 1e-4}, {"clip_norm": 1e-4}, {"rescale": 1e-4}])
def test_a_bounded_gradient_moves_less(options: dict[str, float]) -> None:
    assert descent("sgd", **options)[-1] > 1.5 * descent("sgd")[-1]


def test_a_request_to_stop_ends_the_pass() -> None:
    class Stopping(RecordingRun):
        asked = False

        @property
        def stopping(self) -> bool:
            return self.asked

    run = Stopping()
    seen = []
    for batch in nets.Team(run).rounds(range(10)):
        seen.append(batch)
        run.asked = batch == 3
    assert seen == [0, 1, 2, 3]


def test_the_best_weights_come_back_after_patience() -> None:
    network, best = nn.Linear(2, 1), nets.Best(patience=2)
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.0]):
        with torch.no_grad():
            network.weight.fill_(epoch)
        assert best.judge(epoch, loss, network) == (epoch < 2)
        assert best.exhausted == (epoch == 3)
    resumed = nets.Best(patience=2)
    resumed.take(*best.state())
    assert (resumed.value, resumed.number, resumed.exhausted) == (1.0, 1, True)
    resumed.restore(network)
    assert network.weight.tolist() == [[1.0, 1.0]]


def test_divergence_is_said() -> None:
    with pytest.raises(ValueError, match=r"diverged: the loss of epoch 7 is nan"):
        nets.Best().judge(7, float("nan"), nn.Linear(1, 1))


def test_weights_as_arrays_and_back() -> None:
    torch.manual_seed(0)
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    nets.take_weights(other, nets.weights_of(network))
    assert torch.equal(network.weight, other.weight)
    arrays = nets.weights_of(network)
    with pytest.raises(ValueError, match=r"'weight' has shape \(1, 3\), the network's has \(2, 3\)"):
        nets.take_weights(other, arrays | {"weight": arrays["weight"][:1]})
    with pytest.raises(ValueError, match="differ from the network's: bias"):
        nets.take_weights(other, {"weight": arrays["weight"]})


def test_a_resumed_optimizer_goes_on_as_if_nothing_had_happened() -> None:
    def steps(network: nn.Module, chosen: torch.optim.Optimizer, count: int) -> None:
        stepper = nets.Stepper(network, chosen, nets.Team(RecordingRun()))
        for k in range(count):
            stepper.learn(lambda copy, rows: ((copy(rows) ** 2).mean(), 4), [torch.full((4, 3), 1.0 + k)])

    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    start = nets.weights_of(network)
    start = {name: array.copy() for name, array in start.items()}
    chosen = nets.optimizer("adam", network, 0.1)
    steps(network, chosen, 3)
    kept, moments = {k: v.copy() for k, v in nets.weights_of(network).items()}, nets.optimizer_state(chosen)
    moments = {k: v.copy() for k, v in moments.items()}
    steps(network, chosen, 3)
    other = nn.Linear(3, 1)
    nets.take_weights(other, kept)
    resumed = nets.optimizer("adam", other, 0.1)
    nets.take_optimizer_state(resumed, moments)
    steps(other, resumed, 3)
    assert not np.allclose(start["weight"], kept["weight"])
    np.testing.assert_array_equal(nets.weights_of(other)["weight"], nets.weights_of(network)["weight"])


def test_shuffled_parts_hold_every_number_once() -> None:
    parts = list(nets.shuffled(10, 4, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(np.concatenate(parts)) == list(range(10))
    assert np.concatenate(parts).tolist() != list(range(10))


PAGES = """
import resource
import torch
from sagesmith.algorithms import nets

def faults():
    found = []
    for _ in range(12):  # the first ones may lie apart, by how they are aligned
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(1 << 24)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(found)

def resident():
    return int(open("/proc/self/statm").read().split()[1])

print(faults())
with nets.memory_kept():
    print(faults())
    print(resident())
print(resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be told")
def test_freed_memory_stays_while_a_network_trains() -> None:
    """Pages that the system gives for 64 MB which were just in use, and those held before and after the end."""
    found = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    without, within, held, left = map(int, found.stdout.split())
    assert within < without / 10
    assert left < held - without / 2
