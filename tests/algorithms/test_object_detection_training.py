"""Object Detection learns, judges itself, stops, goes on, freezes and takes weights over; on a small base network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.nets import weights_of
from sagesmith.algorithms.object_detection import network, training
from sagesmith.container.distributed import _free_port
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.conftest import JobLike
from tests.algorithms.detection_scenes import SmallTrunk, drawn

SMALL = {
    "num_classes": 2, "num_training_samples": 24, "use_pretrained_model": 0, "epochs": 2, "mini_batch_size": 8,
    "learning_rate": 0.002, "optimizer": "adam",
}  # fmt: skip
IMAGES, OBJECTS = drawn(24)
HELD = drawn(8, seed=1)
QUALITY = re.compile(r"#quality_metric: host=algo-1, epoch=(\d+), (.+) <(?:loss|score)>=\((\S+)\)$")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base network of these tests."""
    monkeypatch.setitem(network.TRUNKS, "vgg-16", SmallTrunk)
    torch.set_num_threads(1)


def fitted(run: RecordingRun | None = None, **settings: Any) -> ObjectDetection:
    return ObjectDetection(**(SMALL | settings)).fit(IMAGES, OBJECTS, validation=HELD, run=run or RecordingRun())


def qualities(run: RecordingRun) -> list[tuple[int, str, float]]:
    found = [QUALITY.match(line) for line in run.lines]
    return [(int(m[1]), m[2], float(m[3])) for m in found if m]


def test_it_learns_to_find_objects_it_has_not_seen(job: JobLike) -> None:
    model = ObjectDetection(**(SMALL | {"epochs": 9, "num_training_samples": 40}))
    model.fit(*drawn(40), validation=HELD, run=job)
    values = [value for _, name, value in qualities(job) if name == "validation mAP"]
    assert len(values) == 9
    assert max(values) > 0.25
    assert model.score(*HELD) == pytest.approx(max(values))  # the best epoch's network
    losses = [value for _, name, value in qualities(job) if name.endswith("train cross_entropy")]
    assert losses[-1] < 0.7 * losses[0]
    rows = model.predict(HELD[0])
    assert len(rows) == 8
    for row in rows:
        assert (np.diff(row[:, 1]) <= 0).all()
        assert ((row[:, 2:] >= 0) & (row[:, 2:] <= 1)).all()
        assert (row[:, 4:] > row[:, 2:4]).all()
        assert set(row[:, 0]) <= {0, 1}
    assert model.coco_measures(*HELD)["AP50"] == pytest.approx(model.score(*HELD), abs=0.05)
    assert f'Saved checkpoint to "{job.model}/model_algo_1-0000.params"' in job.lines
    assert sorted(path.name for path in job.model.iterdir()) == [
        "hyperparams.json", "model_algo_1-0000.params", "model_algo_1-symbol.json",
    ]  # fmt: skip
    twin = ObjectDetection.load(job.model)
    assert all((a == b).all() for a, b in zip(twin.predict(HELD[0]), rows, strict=True))


def test_the_log_is_sagemakers() -> None:
    run = RecordingRun()
    fitted(run, epochs=1)
    told = [line for line in run.lines if line.startswith(("#", "Updating", "Saved"))]
    number = r"\d+\.\d+(e-\d+)?"
    for line, pattern in zip(
        told,
        (
            rf"#quality_metric: host=algo-1, epoch=0, batch=3 train cross_entropy <loss>=\({number}\)",
            rf"#quality_metric: host=algo-1, epoch=0, batch=3 train smooth_l1 <loss>=\({number}\)",
            rf"#quality_metric: host=algo-1, epoch=0, validation mAP <score>=\({number}\)",
            rf"Updating the best model with validation-mAP={number}",
        ),
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line
    for metric in ObjectDetection.metrics[:3]:
        assert any(re.search(metric.regex, line) for line in told), metric.name


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    first, second, other = fitted(epochs=1), fitted(epochs=1), fitted(epochs=1, seed=1)
    same = [(a == b).all() for a, b in zip(weights(first).values(), weights(second).values(), strict=True)]
    assert all(same)
    assert any((weights(first)[name] != weights(other)[name]).any() for name in weights(first))


def weights(model: ObjectDetection) -> dict[str, np.ndarray]:
    return weights_of(model.network_)


class StopsAfter(JobLike):
    """A job that is asked to stop once so many epochs have been judged."""

    def __init__(self, base: Path, epochs: int) -> None:
        super().__init__(base)
        self.epochs = epochs

    @property
    def stopping(self) -> bool:
        return sum("validation mAP" in line for line in self.lines) >= self.epochs


def test_a_stopped_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = fitted(JobLike(tmp_path / "whole"), epochs=3, optimizer="sgd", lr_scheduler_step="2")
    fitted(StopsAfter(tmp_path / "parts", 2), epochs=3, optimizer="sgd", lr_scheduler_step="2")
    run = JobLike(tmp_path / "parts")
    again = fitted(run, epochs=3, optimizer="sgd", lr_scheduler_step="2")
    assert "Training goes on after 2 epochs" in run.lines
    for name, array in weights(whole).items():
        np.testing.assert_array_equal(array, weights(again)[name])


def test_a_run_that_is_stopped_at_once_has_a_model(tmp_path: Path) -> None:
    model = fitted(StopsAfter(tmp_path, 0))
    assert len(model.predict(HELD[0])) == 8


def test_early_stopping_waits_for_gains_that_count() -> None:
    settings = {
        "early_stopping": True, "early_stopping_min_epochs": 3, "early_stopping_patience": 2,
        "early_stopping_tolerance": 0.1,
    }  # fmt: skip
    patience = training.Patience(settings)
    for epoch, (value, exhausted) in enumerate([(0.2, False), (0.21, False), (0.219, True), (0.3, False)]):
        patience.take(value, epoch)
        assert patience.exhausted == exhausted, epoch
    run = RecordingRun()
    fitted(run, epochs=6, learning_rate=1e-6, **{**settings, "early_stopping_min_epochs": 1})
    assert "Early stopping: no better validation-mAP for 2 epochs" in run.lines
    with pytest.raises(HyperparameterError, match="early_stopping needs a channel 'validation'"):
        ObjectDetection(**SMALL, early_stopping=True).fit(IMAGES, OBJECTS)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adadelta"])
def test_every_optimizer_moves_the_weights(optimizer: str) -> None:
    run = RecordingRun()
    settings = {"optimizer": optimizer, "epochs": 1, "learning_rate": 0.001, "weight_decay": 0.01, "momentum": 0.5}
    model = ObjectDetection(**(SMALL | settings | {"num_training_samples": 8})).fit(IMAGES[:8], OBJECTS[:8], run=run)
    assert all(np.isfinite(array).all() for array in weights(model).values())
    ignored = {line.split()[1] for line in run.lines if f"has no effect with optimizer {optimizer}" in line}
    expected = {"sgd": set(), "rmsprop": {"momentum"}}.get(optimizer, {"momentum", "weight_decay"})
    assert ignored == expected
    assert ("adadelta has no learning rate: learning_rate has no effect" in run.lines) == (optimizer == "adadelta")


def test_the_learning_rate_falls_at_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(training.nets, "set_rate", lambda chosen, rate: rates.append(rate))
    settings = {"epochs": 4, "lr_scheduler_step": "1, 3", "lr_scheduler_factor": 0.5, "learning_rate": 0.01}
    ObjectDetection(**(SMALL | settings)).fit(IMAGES[:8], OBJECTS[:8], run=RecordingRun())
    assert rates == pytest.approx([0.01, 0.005, 0.005, 0.0025])
    with pytest.raises(HyperparameterError, match="lr_scheduler_step"):
        ObjectDetection(**SMALL, lr_scheduler_step="3;4").validate()


def test_frozen_layers_are_not_learnt(tmp_path: Path) -> None:
    before = weights(fitted(StopsAfter(tmp_path, 0)))
    run = RecordingRun()
    after = weights(fitted(run, epochs=1, freeze_layer_pattern="^(conv1_).*"))
    assert "Layers that are not learnt: conv1_1" in run.lines
    for name, array in before.items():
        kept = (array == after[name]).all()
        assert kept == name.startswith("trunk.base."), name
    with pytest.raises(ValueError, match=r"'\^stage9' matches no layer .* its layers are conv1_1, conv2_1"):
        fitted(freeze_layer_pattern="^stage9")
    with pytest.raises(HyperparameterError, match="freeze_layer_pattern"):
        fitted(freeze_layer_pattern="(")


def test_layers_of_the_real_networks_have_mxnets_names() -> None:
    with torch.device("meta"):
        vgg, resnet = network.VGGTrunk().named_layers(), network.ResNetTrunk().named_layers()
    assert list(vgg)[:3] == ["conv1_1", "conv1_2", "conv2_1"]
    assert list(vgg)[-3:] == ["conv5_3", "fc6", "fc7"]
    assert {"conv0", "bn0", "stage1_unit1_sc", "stage1_unit1_conv1", "stage4_unit3_bn3"} <= set(resnet)
    assert len(resnet) == 53 * 2


def test_an_earlier_model_is_trained_on(tmp_path: Path) -> None:
    fitted(epochs=1).save(tmp_path / "earlier")
    run = StopsAfter(tmp_path / "job", 0)
    run.initial_model = tmp_path / "earlier"
    again = fitted(run)
    assert f"Training goes on from the model in {run.initial_model}" in run.lines
    earlier = weights(ObjectDetection.load(tmp_path / "earlier"))
    assert all((earlier[name] == array).all() for name, array in weights(again).items())
    with pytest.raises(HyperparameterError, match="num_classes is 3, but the model in channel 'model' has 2"):
        fitted(run, num_classes=3)
    with pytest.raises(ValueError, match="was trained at image_shape 300, which has other feature maps than 512"):
        fitted(run, image_shape=512)


def test_pretrained_weights_are_looked_for_and_missing_ones_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("SAGESMITH_PRETRAINED", raising=False)
    with pytest.raises(DataError, match=r"no published weights of resnet50.*resnet50\.pth.*channel 'model'"):
        fitted(base_network="resnet-50", use_pretrained_model=1)
    source = network.ResNet(50, classes=1000)
    torch.save(source.state_dict(), tmp_path / "resnet50-0676ba61.pth")
    monkeypatch.setenv("SAGESMITH_PRETRAINED", str(tmp_path))
    model = fitted(StopsAfter(tmp_path / "job", 0), base_network="resnet-50", use_pretrained_model=1)
    own = weights(model)
    for name, tensor in source.state_dict().items():
        if not name.startswith("fc."):
            assert (own[f"trunk.base.{name}"] == tensor.numpy()).all(), name


def test_a_picture_and_an_empty_one_are_enough_to_train_on() -> None:
    one = ObjectDetection(**(SMALL | {"num_training_samples": 1})).fit(IMAGES[:1], OBJECTS[:1], run=RecordingRun())
    assert len(one.predict(IMAGES[:2])) == 2
    run = RecordingRun()
    empty = [np.empty((0, 5))]
    ObjectDetection(**SMALL).fit(IMAGES[:1], empty, validation=(IMAGES[:1], empty), run=run)
    assert {value for _, _, value in qualities(run)} == {0.0}
    assert any(line.startswith("Expected number of batches: 3, did not match") for line in run.lines)


def test_a_diverging_run_says_so() -> None:
    with pytest.raises(ValueError, match="training diverged: the loss of epoch"):
        fitted(epochs=6, optimizer="sgd", learning_rate=1.0, momentum=1.0)


GANG = """
import os
import sys
import torch
import torch.distributed as distributed
from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.object_detection import network
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.detection_scenes import SmallTrunk, drawn
from functools import partial

class Host(RecordingRun):
    def gather(self, state):
        found = [None] * len(self.hosts)
        distributed.all_gather_object(found, state)
        return found

rank, size, port = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
run = Host()
run.hosts = [f"algo-{k + 1}" for k in range(size)]
run.host, run.port = run.hosts[rank], port
network.TRUNKS["vgg-16"] = partial(SmallTrunk, normalised=False)
model = ObjectDetection(num_classes=2, num_training_samples=22, use_pretrained_model=0, epochs=3,
                        mini_batch_size=8 // size, learning_rate=0.01, kv_store="dist_sync")
model.fit(*drawn(22), validation=drawn(7, seed=1), run=run)
print("\\n".join(line for line in run.lines if "#quality" in line), flush=True)
os._exit(0)  # as a job ends where torch is: gloo's threads may abort an ordinary exit
"""


def gang(size: int) -> list[list[float]]:
    """The metrics of each host, in their order."""
    port = _free_port("127.0.0.1")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", GANG]
    start = partial(subprocess.Popen, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = [start([*command, str(rank), str(size), str(port)]) for rank in range(size)]
    output = [child.communicate(timeout=150) for child in children]
    assert [child.returncode for child in children] == [0] * size, output
    return [[float(found) for found in re.findall(r"=\((\S+)\)", said)] for said, _ in output]


def test_two_hosts_have_the_loss_curve_of_one() -> None:
    alone = gang(1)[0]
    first, second = gang(2)
    assert len(alone) == 9
    assert first == second
    assert first == pytest.approx(alone, rel=2e-3, abs=1e-4)


def test_two_devices_of_a_host_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies on the CPU stand for two GPUs; without batch normalisation they make the steps of one."""
    from sagesmith.algorithms import nets

    monkeypatch.setitem(network.TRUNKS, "vgg-16", partial(SmallTrunk, normalised=False))
    found: list[dict[str, np.ndarray]] = []
    for count in (1, 2):
        devices: Callable[[Any], list[torch.device]] = lambda run, count=count: [torch.device("cpu")] * count  # noqa: E731
        monkeypatch.setattr(nets, "every_device", devices)
        found.append(weights(fitted(epochs=1, optimizer="sgd", freeze_layer_pattern="conv1_1")))
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=1e-3, atol=1e-5)
