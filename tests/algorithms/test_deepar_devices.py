"""DeepAR on several devices and hosts: what it learns does not hang on how many share a batch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import DeepAR, nets
from sagesmith.algorithms.deepar.network import Network
from sagesmith.container.distributed import _free_port
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.conftest import JobLike
from tests.algorithms.deepar_series import SETTINGS, drawn

FEW = SETTINGS | {"epochs": 2, "dropout_rate": 0.0}


def learnt(
    monkeypatch: pytest.MonkeyPatch, devices: int, records: list[dict[str, Any]], run: Any = None, **settings: Any
) -> dict[str, np.ndarray]:
    """The arrays of a model that so many CPU devices made."""
    monkeypatch.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * devices)
    return DeepAR(**FEW | settings).fit(records, run=run or RecordingRun()).arrays_


def alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=1e-3, atol=2e-4, err_msg=name)


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in one.items())


def holed() -> list[dict[str, Any]]:
    """Series with missing values, more of them in some than in others."""
    random, records = np.random.default_rng(0), drawn(12)
    for number, record in enumerate(records):
        missing = random.random(len(record["target"])) < number / 13
        record["target"] = [None if gone else value for value, gone in zip(record["target"], missing, strict=True)]
    return records


@pytest.mark.parametrize(("devices", "likelihood"), [(2, "student-T"), (3, "student-T"), (2, "negative-binomial")])
def test_devices_learn_what_one_does(monkeypatch: pytest.MonkeyPatch, devices: int, likelihood: str) -> None:
    records, settings = holed(), {"mini_batch_size": 90, "likelihood": likelihood, "num_layers": 3}
    if likelihood == "negative-binomial":
        for record in records:
            record["target"] = [None if value is None else float(round(value)) for value in record["target"]]
    runs = [RecordingRun() for _ in range(2)]
    alone = learnt(monkeypatch, 1, records, runs[0], **settings)
    together = learnt(monkeypatch, devices, records, runs[1], **settings)
    alike(alone, together)
    first, second = ([float(line.rpartition("=")[2]) for line in run.lines if "train loss" in line] for run in runs)
    assert second == pytest.approx(first, rel=1e-4)


def test_a_device_may_have_windows_without_any_value(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [{"start": "2024-01-01", "target": [None] * 100, "cat": [0]} for _ in range(60)]
    records = drawn(3) + silent
    shares: list[list[int]] = []
    learn = nets.Stepper.learn

    def noted(self: nets.Stepper, loss_of: Any, parts: Sequence[Any]) -> None:
        shares.append([part.observed for part in parts])
        learn(self, loss_of, parts)

    monkeypatch.setattr(nets.Stepper, "learn", noted)
    alone = learnt(monkeypatch, 1, records, mini_batch_size=32)
    shares.clear()
    together = learnt(monkeypatch, 2, records, mini_batch_size=32)
    assert any(0 in share and max(share) > 0 for share in shares), "some part has nothing to learn"
    assert [] in shares, "some batch has nothing to learn"
    alike(alone, together)


def test_each_part_draws_zoneout_of_its_own_and_the_seed_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    forward = Network.forward

    def noted(self: Network, *given: Any) -> torch.Tensor:
        seeds.extend(given[-1])
        return forward(self, *given)

    monkeypatch.setattr(Network, "forward", noted)
    models = [learnt(monkeypatch, 3, drawn(6), dropout_rate=0.2, seed=seed) for seed in (1, 1, 2)]
    assert equal(models[0], models[1])
    assert not equal(models[0], models[2])
    one = seeds[: len(seeds) // 3]
    assert len(set(one)) == len(one), "no layer of a part draws what another does"


class Cut(JobLike):
    """A run that is asked to stop once its second epoch was measured."""

    @property
    def stopping(self) -> bool:
        return any("epoch=1, train loss" in line for line in self.lines)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: int
) -> None:
    settings = {"epochs": 4, "dropout_rate": 0.2}
    whole = learnt(monkeypatch, devices, drawn(6), **settings)
    learnt(monkeypatch, devices, drawn(6), Cut(tmp_path), **settings)
    run = JobLike(tmp_path)
    resumed = learnt(monkeypatch, devices, drawn(6), run, **settings)
    assert sum("processed a total of" in line for line in run.lines) == 2
    assert equal(whole, resumed)


def test_a_checkpoint_of_an_earlier_form_is_left_aside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those had `weights|head.bias` for `weights/head.bias`, and the hyperparameters alone for the job."""
    settings = {"epochs": 4}
    whole = learnt(monkeypatch, 1, drawn(6), **settings)
    learnt(monkeypatch, 1, drawn(6), Cut(tmp_path), **settings)
    for path in JobLike(tmp_path).checkpoints.glob("deepar-checkpoint.*.npz"):
        with np.load(path) as kept:
            arrays = {re.sub(r"^(array/\w+)/", r"\1|", name): kept[name] for name in kept.files}
        document = json.loads(arrays["facts"].tobytes())
        document["job"].pop("form", None)
        np.savez(path, **arrays | {"facts": np.frombuffer(json.dumps(document).encode(), np.uint8)})
    run = JobLike(tmp_path)
    again = learnt(monkeypatch, 1, drawn(6), run, **settings)
    assert any("Checkpoint left aside" in line and "form" in line for line in run.lines)
    assert equal(whole, again)


# -- hosts ------------------------------------------------------------------------------------------------------
GANG = """
import os, sys
from pathlib import Path
import numpy as np
import torch
from sagesmith.algorithms import DeepAR, nets
from sagesmith.container.distributed import Meeting, _free_port, join
from tests.algorithms.conftest import JobLike
from tests.algorithms.deepar_series import drawn
from tests.algorithms.test_deepar_devices import FEW, Cut

rank, port, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
hosts = ("algo-1", "algo-2")
circle = join(hosts[rank], hosts, Meeting("127.0.0.1", port, "127.0.0.1", b"secret", 60))

def learnt(name, kind, folder, devices):
    nets.every_device = lambda run: [torch.device("cpu")] * devices
    run = kind(out / folder)
    run.host, run.hosts, run.gather = hosts[rank], hosts, circle.gather
    run.port = int(circle.gather(b"%d" % _free_port("127.0.0.1"))[0])  # another each time: a port's store outlives it
    model = DeepAR(**FEW | {"epochs": 3}).fit(drawn(9), run=run)
    epochs = [line.partition(",")[2] for line in run.lines if "train loss" in line and "batch" not in line]
    np.savez(out / f"{name}{rank}.npz", epochs=epochs, **model.arrays_)

learnt("one", JobLike, "one", 1)
learnt("two", JobLike, "two", 2)
learnt("cut", Cut, "cut", 2)
learnt("resumed", JobLike, "cut", 2)
os._exit(0)  # as a job ends where torch is: gloo's threads may abort an ordinary exit
"""


def test_hosts_of_two_devices_learn_what_hosts_of_one_do_and_go_on_together(tmp_path: Path) -> None:
    port, environment = _free_port("127.0.0.1"), os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    children = [
        subprocess.Popen([sys.executable, "-c", GANG, str(rank), str(port), str(tmp_path)],
                         env=environment | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
        for rank in range(2)
    ]  # fmt: skip
    errors = [child.communicate(timeout=300)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0], errors
    found = {path.stem: dict(np.load(path)) for path in tmp_path.glob("*.npz")}
    epochs = {name: arrays.pop("epochs").tolist() for name, arrays in found.items()}
    for name in ("one", "two", "resumed"):
        assert equal(found[f"{name}0"], found[f"{name}1"]), "hosts have one model"
        assert epochs[f"{name}0"] == epochs[f"{name}1"]
    alike(found["one0"], found["two0"])
    assert equal(found["two0"], found["resumed0"])
    assert [re.findall(r"epoch=\d", line) for line in epochs["resumed0"]] == [["epoch=2"]]
    assert epochs["resumed0"] == epochs["two0"][2:]
