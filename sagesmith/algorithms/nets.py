"""nets: what the torch algorithms share besides their idea: device and hosts, optimisers, a step, the best weights.

An algorithm writes its network and its own loop over epochs; this module is a handful of parts for that loop:

    team = Team(run, seed=0)                                device, threads, the other hosts
    network = team.copied(Network(...))                     the same start everywhere
    stepper = Stepper(network, optimizer("adam", network, 0.001), team, clip_value=5.0)
    for rows in team.rounds(batches):                       as many rounds on every host
        stepper.learn(loss_of, parts)                       mean gradient over the parts of all devices and hosts
    best.judge(epoch, loss, network)                        patience and the best weights

Imports torch at once: import this module inside the functions that train or answer.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin between small products starve the others
try:
    import torch
    import torch.distributed as distributed
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "this algorithm needs PyTorch, which is not installed: pip install 'sagesmith[neural]', or 'sagesmith[vision]' "
        "for pictures (a CPU build is enough)",
        name=error.name,
    ) from error

from torch import Tensor, nn

from sagesmith.algorithms.replicas import Precision, Replicas, gradients_of, take_gradients
from sagesmith.algorithms.run import Run

_Batch = TypeVar("_Batch")
OPTIMIZERS = ("sgd", "nag", "adam", "adagrad", "adadelta", "rmsprop")
GANG_TIMEOUT = timedelta(minutes=30)  # a host may take this long over one batch before the others give it up


class Team:
    """Where a network trains: the devices and threads of this host, and the other hosts of the gang.

    Hosts meet through torch.distributed: gloo, or NCCL where every host trains on a GPU.

    Args:
        devices: of this host, the first of which is `device`. None: `every_device`.

    Raises:
        RuntimeError: the other hosts cannot be reached.
    """

    def __init__(self, run: Run, seed: int | None = None, devices: Sequence[torch.device] | None = None) -> None:
        self.run = run
        torch.set_num_threads(max(1, run.threads))
        self.devices = tuple(devices or every_device(run))
        self.device = self.devices[0]
        if seed is not None:
            self.seed(seed)
        if run.gpus and self.device.type == "cpu":
            run.log("The host has %d GPU(s), but this build of PyTorch cannot use them; training on the CPU", run.gpus)
        elif run.gpus > 1:
            run.log("The host has %d GPUs; %d of them used", run.gpus, len(self.devices))
        self.size = len(run.hosts)
        if self.size > 1:
            self._join()

    def _join(self) -> None:
        address = self.run.address
        if _is_loopback(address):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        kind = "nccl" if self.device.type == "cuda" else "gloo"
        where = f"tcp://[{address}]:{self.run.port}" if ":" in address else f"tcp://{address}:{self.run.port}"
        distributed.init_process_group(
            kind, init_method=where, rank=self.run.rank, world_size=self.size, timeout=GANG_TIMEOUT
        )

    def seed(self, seed: int) -> None:
        """Begins what networks draw at random anew: other numbers on each GPU, as each has other rows."""
        torch.manual_seed(seed)
        for number, device in enumerate(self.devices):
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed + number)

    def random(self) -> dict[str, np.ndarray]:
        """How far drawing at random has come on every device, for a checkpoint."""
        states = {str(device): torch.cuda.get_rng_state(device) for device in self.devices if device.type == "cuda"}
        return {name: state.numpy() for name, state in (states | {"cpu": torch.get_rng_state()}).items()}

    def take_random(self, states: Mapping[str, np.ndarray]) -> None:
        """Goes on drawing from what `random` gave, on the devices that are still there."""
        for name, state in states.items():
            if name == "cpu":
                torch.set_rng_state(torch.from_numpy(state.copy()))
            elif name in map(str, self.devices):
                torch.cuda.set_rng_state(torch.from_numpy(state.copy()), name)

    def cuts(self, count: int, least: int = 1) -> list[tuple[slice, torch.device]]:
        """A batch's `count` rows in even parts, one for each device as long as each has at least `least` rows."""
        parts = max(1, min(len(self.devices), count // least))
        ends = np.cumsum([count // parts + (part < count % parts) for part in range(parts)]).tolist()
        return [(slice(*pair), device) for pair, device in zip(pairwise([0, *ends]), self.devices, strict=False)]

    def shared(self, rows: np.ndarray, least: int = 1) -> list[tuple[np.ndarray, torch.device]]:
        """The rows themselves, cut so."""
        return [(rows[cut], device) for cut, device in self.cuts(len(rows), least)]

    def close(self) -> None:
        """Leaves the gang. Call it in a `finally`."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def copied(self, network: nn.Module, rank: int = 0) -> Any:
        """The network on the device, with the weights of one host: the first, or that of another rank."""
        network = network.to(self.device)
        if self.size > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, rank)
        return network

    def total(self, *values: float) -> list[float]:
        """Each value summed over the hosts."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        return [float(value) for value in sums]

    def average(self, network: nn.Module, weight: float = 1.0) -> None:
        """Makes the buffers of a network (BatchNorm's statistics) the mean over the hosts, as MXNet does; a host's
        count by its weight."""
        if self.size == 1:
            return
        (whole,) = self.total(weight)
        for buffer in network.buffers():
            if whole and buffer.is_floating_point():
                buffer *= weight
                distributed.all_reduce(buffer)
                buffer /= whole

    @property
    def stopping(self) -> bool:
        """Whether any host was asked to stop. All hosts must ask at the same point."""
        return self.total(float(self.run.stopping))[0] > 0

    def rounds(self, batches: Iterable[_Batch]) -> Iterator[_Batch | None]:
        """The batches of a pass; None where other hosts still have some. A request to stop ends the pass everywhere."""
        iterator = iter(batches)
        if self.size == 1:
            for batch in iterator:
                yield batch
                if self.run.stopping:
                    return
            return
        while True:
            mine = next(iterator, None)
            having, stopping = self.total(float(mine is not None), float(self.run.stopping))
            if not having or stopping:
                return
            yield mine


def every_device(run: Run) -> list[torch.device]:
    """The GPUs of this host that PyTorch can use; the CPU if there are none."""
    if run.gpus and torch.cuda.is_available():
        return [torch.device("cuda", number) for number in range(min(run.gpus, torch.cuda.device_count()))]
    return [torch.device("cpu")]


def flush() -> None:
    """Lets numbers below 1e-38 be 0 in this thread: vanishing gradients and moments are, and slow processors down."""
    torch.set_flush_denormal(True)


@contextmanager
def flushed() -> Iterator[None]:
    """`flush` while a network trains."""
    flush()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keeps freed memory in the process while a network trains.

    A step frees what it filled and asks for as much again. glibc gives large blocks back at once, and the system clears
    every page anew: a tenth of the processor time of a convolutional network's step on a CPU. Has no effect without
    glibc.
    """
    change: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        yield
        return
    change(_MMAP_MAX, 0)
    change(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:  # as far as glibc's own thresholds rise
        change(_MMAP_THRESHOLD, 32 << 20)
        change(_TRIM_THRESHOLD, 64 << 20)
        change(_MMAP_MAX, 65536)
        ctypes.CDLL(None).malloc_trim(0)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)


def serving_device() -> torch.device:
    """Where a loaded network answers: the GPU, if there is one that PyTorch can use."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def optimizer(
    name: str,
    network: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    eps: float = 1e-8,
    gamma: float = 0.9,
) -> torch.optim.Optimizer:
    """An optimiser by SageMaker's name, with the constants of MXNet's, which the service's own are.

    MXNet's adadelta has no learning rate: `learning_rate` has no effect with it, as in the service.

    Args:
        weight_decay: is added to the gradient (L2) of everything but biases, which MXNet leaves out.
        momentum: of sgd and nag.
        beta_1, beta_2: decay of adam's moments.
        eps: of adam and rmsprop.
        gamma: decay of rmsprop's moment.

    Raises:
        ValueError: a name that is not among OPTIMIZERS.
    """
    groups = _groups(network, weight_decay)
    if name in ("sgd", "nag"):
        # On a CPU the fused step takes twice as long as the plain one where weights are laid out channels last.
        fused = all(weight.is_cuda or weight.is_contiguous() for group in groups for weight in group["params"])
        return torch.optim.SGD(groups, learning_rate, momentum, nesterov=name == "nag" and momentum > 0, fused=fused)
    if name == "adam":
        return torch.optim.Adam(groups, learning_rate, (beta_1, beta_2), eps, fused=True)
    if name == "adagrad":
        return torch.optim.Adagrad(groups, learning_rate, eps=1e-7)
    if name == "adadelta":
        return torch.optim.Adadelta(groups, 1.0, rho=0.9, eps=1e-5)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, learning_rate, alpha=gamma, eps=eps)
    raise ValueError(f"optimizer {name!r}: it must be one of {', '.join(OPTIMIZERS)}")


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What the optimiser moves, weights apart from biases: MXNet's Optimizer.set_wd_mult goes by names too."""
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (biases if name.rpartition(".")[2].startswith("bias") else weights).append(parameter)
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def set_rate(chosen: torch.optim.Optimizer, learning_rate: float) -> None:
    """Changes the learning rate of an optimiser from its next step on."""
    for group in chosen.param_groups:
        group["lr"] = learning_rate


def stepped(learning_rate: float, factor: float, steps: Iterable[float], done: float) -> float:
    """The learning rate once `done` is reached: multiplied by `factor` at each of `steps` that is not beyond it."""
    return learning_rate * factor ** sum(done >= step for step in steps)


def warmed(learning_rate: float, updates: int, done: int) -> float:
    """The learning rate of the update after `done` others: rises evenly over the first `updates` of them.

    Goyal et al., Accurate, Large Minibatch SGD, 2017, section 2.2.
    """
    return learning_rate * min(1.0, (done + 1) / (updates + 1))


class Stepper:
    """One step of an optimiser for one batch on every host.

    Args:
        rescale: factor for every gradient (`rescale_gradient`).
        clip_value: bound for each component of the gradient; None: none.
        clip_norm: bound for the norm of the whole gradient; None: none.
        precision: in what numbers `learn` calculates; None: float32.
    """

    def __init__(
        self,
        network: nn.Module,
        chosen: torch.optim.Optimizer,
        team: Team,
        *,
        rescale: float = 1.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.network, self.optimizer, self.team = network, chosen, team
        self.precision = precision or Precision("float32", team.device, team.run)
        self._replicas = Replicas(network, team.devices)
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self._rescale, self._clip_value, self._clip_norm = rescale, clip_value, clip_norm
        if isinstance(chosen, torch.optim.Adadelta):
            team.run.log("adadelta has no learning rate: learning_rate has no effect")

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The network and its copies, one for each of the team's devices, for weights that are not moved by `learn`:
        it copies only those that require a gradient."""
        return self._replicas.networks

    def learn(self, loss_of: Callable[[Any, Any], tuple[Tensor, int]], parts: Sequence[Any]) -> None:
        """Moves the weights down the gradient of the mean loss of a batch, given in parts.

        Args:
            loss_of: called as loss_of(network, part), for each part with another copy of the network; gives the mean
                loss over the part's rows, and their number. Runs in a thread for each part where there are several.
            parts: at most one for each of the team's devices; none: no batch on this host.
        """
        self.optimizer.zero_grad(set_to_none=True)
        rows = self._replicas.backward(loss_of, parts, self.precision)
        self._move(rows)
        self._replicas.refresh()

    def share_statistics(self) -> None:
        """Makes BatchNorm's statistics the mean over all devices and hosts that have learnt since the last call.

        Call it before judging or saving.
        """
        self.team.average(self.network, self._replicas.average())
        self._replicas.refresh(statistics=True)

    def spread(self) -> None:
        """Gives the other devices' copies the network's weights, once they were set by something else than a step."""
        self._replicas.refresh(statistics=True)

    def _move(self, rows: int) -> None:
        """One step with the gradients that are there, means over `rows` rows."""
        if self.team.size > 1:
            self._meet(rows)
        self.precision.unscale(self.optimizer)
        weights = [weight for weight in self._weights if weight.grad is not None]
        if self._rescale != 1.0:
            torch._foreach_mul_([weight.grad for weight in weights if weight.grad is not None], self._rescale)
        if self._clip_value is not None:
            nn.utils.clip_grad_value_(weights, self._clip_value)
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(weights, self._clip_norm)
        self.precision.step(self.optimizer)

    def _meet(self, rows: int) -> None:
        """Every gradient becomes the mean over the rows of all hosts: one message with all of them."""
        gradients = gradients_of(self._weights)
        message = torch.cat([gradients * rows, torch.tensor([float(rows)], device=self.team.device)])
        distributed.all_reduce(message)
        take_gradients(self._weights, message[:-1] / message[-1].clamp(min=1.0))


class Best:
    """The best weights so far and how long they have been the best.

    Args:
        patience: judgements in a row without improvement that end training; None: never.
        better: whether a first value is better than a second; the default wants smaller ones.
    """

    def __init__(self, patience: int | None = None, better: Callable[[float, float], bool] | None = None) -> None:
        self.patience = patience
        self._better = better or (lambda new, old: new < old)
        self.value: float | None = None
        self.number: int | None = None
        self.bad = 0
        self._weights: dict[str, Tensor] = {}

    def judge(self, number: int, value: float, network: nn.Module) -> bool:
        """Notes the judgement of epoch (or check) `number`; True if it is the best so far.

        Raises:
            ValueError: the value is NaN or infinite: training diverged.
        """
        if not np.isfinite(value):
            raise ValueError(
                f"training diverged: the loss of epoch {number} is {value}; try a smaller learning_rate, or look for "
                "very large numbers in the data"
            )
        if self.value is not None and not self._better(value, self.value):
            self.bad += 1
            return False
        self.value, self.number, self.bad = value, number, 0
        with torch.no_grad():
            self._weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return True

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.bad >= self.patience

    def restore(self, network: nn.Module) -> None:
        """Gives the network its best weights back, if any were judged."""
        if self._weights:
            network.load_state_dict(self._weights)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and facts for a checkpoint."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self._weights.items()}
        return arrays, {"value": self.value, "number": self.number, "bad": self.bad}

    def take(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._weights = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        self.value, self.number, self.bad = facts["value"], facts["number"], facts["bad"]


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    """The weights and buffers of a network as arrays by name, on the CPU."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def take_weights(network: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a network the weights that `weights_of` gave.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs, by name.
    """
    own = network.state_dict()
    if strange := sorted(set(own) ^ set(arrays)):
        raise ValueError(f"the weights differ from the network's: {', '.join(strange[:5])}")
    for name, tensor in own.items():
        if tuple(tensor.shape) != arrays[name].shape:
            raise ValueError(f"{name!r} has shape {arrays[name].shape}, the network's has {tuple(tensor.shape)}")
    network.load_state_dict({name: torch.from_numpy(np.array(arrays[name])) for name in own})


def optimizer_state(chosen: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """The moments of an optimiser as arrays named `<parameter>/<moment>`, for a checkpoint."""
    state: Mapping[int, Mapping[str, Any]] = chosen.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value).detach().cpu().numpy()
        for index, moments in state.items()
        for name, value in moments.items()
        if value is not None
    }


def take_optimizer_state(chosen: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives an optimiser over the same parameters the moments that `optimizer_state` gave."""
    weights = [weight for group in chosen.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        index, _, name = key.partition("/")
        tensor, weight = torch.from_numpy(np.array(array)), weights[int(index)]
        if tensor.shape == weight.shape:  # in the weight's order of memory, which fused optimisers go by
            tensor = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    chosen.load_state_dict({"state": state, "param_groups": chosen.state_dict()["param_groups"]})


def shuffled(count: int, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """The numbers below `count` in a random order, in parts of `size` (the last may be smaller)."""
    order = random.permutation(count)
    for at in range(0, count, size):
        yield order[at : at + size]
