"""Training: it learns, is the same each time, stops, resumes, on one device or several; every hyperparameter acts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sagesmith.algorithms import SemanticSegmentation, nets
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.semantic_segmentation.network import Segmenter
from sagesmith.algorithms.semantic_segmentation.synchronized import synchronize
from sagesmith.algorithms.semantic_segmentation.training import optimizer_of
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.semantic_segmentation_scenes import Tiny, drawn, small, tiny

__all__ = ["tiny"]
pytestmark = pytest.mark.usefixtures("tiny")
TRAIN, HELD = drawn(48), drawn(12, seed=1)


class Stopping(RecordingRun):
    """A run that is asked to stop once `stop` says so; with a folder for checkpoints if one is given."""

    def __init__(self, stop: Any = lambda run: False, checkpoints: Path | None = None) -> None:
        super().__init__()
        self._stop, self.checkpoints = stop, checkpoints

    @property
    def stopping(self) -> bool:
        return bool(self._stop(self))


def found(lines: list[str], what: str) -> list[float]:
    """The values of a quality metric, epoch by epoch."""
    pattern = rf"^#quality_metric\. host: algo-1, epoch: \d+, {what}: (\S+) \.$"
    return [float(match[1]) for line in lines if (match := re.match(pattern, line))]


def weights(model: SemanticSegmentation) -> np.ndarray:
    return np.concatenate([array.ravel().astype(np.float64) for array in model.arrays().values()])


@pytest.mark.parametrize("algorithm", ["fcn", "psp", "deeplab"])
def test_every_decoder_learns_square_and_disc(algorithm: str) -> None:
    run = RecordingRun()
    model = small(algorithm=algorithm, epochs=14).fit(*TRAIN, validation=HELD, run=run)
    mious = found(run.lines, "validation mIOU")
    assert max(mious) > 0.6
    assert model.score(*HELD) == pytest.approx(max(mious), abs=1e-9)  # the best epoch is the model
    losses = found(run.lines, "train loss")
    assert losses[-1] < 0.6 * losses[0]


def test_the_log_is_sagemakers_to_the_letter() -> None:
    run = RecordingRun()
    small(epochs=2, num_training_samples=48, mini_batch_size=2).fit(*TRAIN, validation=HELD, run=run)
    lines = "\n".join(run.lines)
    for line in (
        r"^LRScheduler setup: iters per epoch: 24, num_epochs 2$",
        r"^#progress_notice\. epoch: 0, iterations: 20 speed: \d+\.\d+ samples/sec learning_rate: 0\.061564$",
        r"^#throughput_metric\. host: algo-1, epoch: 0, train throughput: \d+\.\d+ samples/sec\.$",
        r"^#throughput_metric\. host: algo-1, epoch: 1, validation throughput: \d+\.\d+ samples/sec\.$",
        r"^#quality_metric\. host: algo-1, epoch: 1, validation mIOU: 0\.\d+ \.$",
        r"^#quality_metric\. host: algo-1, epoch: 1, validation pixel_accuracy: 0\.\d+ \.$",
        r"^#quality_metric\. host: algo-1, epoch: 1, train loss: \d+\.\d+ \.$",
    ):
        assert re.search(line, lines, re.MULTILINE), line
    for metric in SemanticSegmentation.metrics[:-1]:
        assert re.search(metric.regex, lines), metric.name


def test_two_runs_are_one() -> None:
    first, second = (small(epochs=2).fit(*TRAIN, validation=HELD) for _ in range(2))
    other = small(epochs=2, seed=1).fit(*TRAIN, validation=HELD)
    assert np.array_equal(weights(first), weights(second))
    assert not np.array_equal(weights(first), weights(other))


def test_without_validation_the_last_epoch_is_the_model() -> None:
    run = RecordingRun()
    model = small(epochs=2).fit(*TRAIN, run=run)
    assert not found(run.lines, "validation mIOU")
    assert np.isfinite(weights(model)).all()
    with pytest.raises(HyperparameterError, match="early_stopping needs validation data"):
        small(early_stopping=True).fit(*TRAIN)


def test_early_stopping_ends_training() -> None:
    run = RecordingRun()
    model = small(epochs=20, learning_rate=1e-9, early_stopping=True, early_stopping_min_epochs=3,
                  early_stopping_patience=2, early_stopping_tolerance=0.5)  # fmt: skip
    model.fit(*TRAIN, validation=HELD, run=run)
    assert 3 <= len(found(run.lines, "validation mIOU")) < 20
    assert "training ends early" in "\n".join(run.lines)


def test_a_request_to_stop_leaves_the_best_epoch() -> None:
    run = Stopping(lambda run: len(found(run.lines, "validation mIOU")) == 3)
    model = small(epochs=50).fit(*TRAIN, validation=HELD, run=run)
    assert model.score(*HELD) == pytest.approx(max(found(run.lines, "validation mIOU")), abs=1e-9)
    assert model.predict(HELD[0]).shape == (12, 48, 64)


def test_a_request_to_stop_in_the_first_epoch_leaves_what_there_is() -> None:
    run = Stopping(lambda run: True)
    model = small(epochs=50).fit(*TRAIN, validation=HELD, run=run)
    assert not found(run.lines, "validation mIOU")
    assert model.predict(HELD[0]).shape == (12, 48, 64)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(tmp_path: Path, optimizer: str) -> None:
    settings = {"epochs": 4, "optimizer": optimizer, "learning_rate": 0.01}
    whole = RecordingRun()
    expected = small(**settings).fit(*TRAIN, validation=HELD, run=whole)
    first = Stopping(lambda run: len(found(run.lines, "validation mIOU")) == 2, tmp_path)
    small(**settings).fit(*TRAIN, validation=HELD, run=first)
    second = Stopping(checkpoints=tmp_path)
    model = small(**settings).fit(*TRAIN, validation=HELD, run=second)
    assert "Training goes on after epoch 1" in "\n".join(second.lines)
    for what in ("train loss", "validation mIOU"):
        assert found(first.lines, what) + found(second.lines, what) == found(whole.lines, what)
    assert np.array_equal(weights(model), weights(expected))


def test_a_checkpoint_of_another_job_is_left_aside(tmp_path: Path) -> None:
    small(epochs=1).fit(*TRAIN, validation=HELD, run=Stopping(checkpoints=tmp_path))
    run = Stopping(checkpoints=tmp_path)
    small(epochs=1, crop_size=40).fit(*TRAIN, validation=HELD, run=run)
    assert "it is of a job with other crop_size" in "\n".join(run.lines)


def test_a_diverging_loss_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Segmenter.loss
    monkeypatch.setattr(Segmenter, "loss", lambda *given: loss(*given) * float("inf"))
    with pytest.raises(ValueError, match=r"training diverged: the loss of epoch 0 is (inf|nan)"):
        small().fit(*TRAIN)


def test_a_batch_without_a_labelled_pixel_moves_nothing_to_nan() -> None:
    masks = [np.full((48, 64), 255, np.uint8)] * 8
    model = small(epochs=1).fit(TRAIN[0][:8], masks)
    assert np.isfinite(weights(model)).all()


def test_fewer_pictures_than_a_batch_are_one() -> None:
    assert np.isfinite(weights(small(epochs=2).fit(TRAIN[0][:3], TRAIN[1][:3]))).all()
    assert np.isfinite(weights(small(epochs=1, algorithm="psp").fit(TRAIN[0][:1], TRAIN[1][:1]))).all()


def test_what_has_no_effect_is_said() -> None:
    run = RecordingRun()
    small(epochs=1, crop_size=30, num_training_samples=40, gamma1=0.5, syncbn=True).fit(*TRAIN, run=run)
    lines = "\n".join(run.lines)
    for line in (
        "crop_size 30 is rounded up to 32, a multiple of 8",
        "num_training_samples is 40, but the train channel has 48 pictures",
        "gamma1 has no effect with optimizer sgd: it needs rmsprop",
        "syncbn has no effect: the network trains on one device",
        "iters per epoch: 5, num_epochs 1",
    ):
        assert line in lines
    run = RecordingRun()
    small(epochs=1, optimizer="adadelta", momentum=0.5, weight_decay=0.1).fit(*TRAIN, run=run)
    lines = "\n".join(run.lines)
    assert "momentum has no effect with optimizer adadelta: it needs sgd or nag" in lines
    assert "weight_decay has no effect with optimizer adadelta" in lines
    assert "adadelta has no learning rate" in lines


def test_published_weights_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGESMITH_PRETRAINED", raising=False)
    with pytest.raises(DataError, match=r"no published weights of resnet101.*channel 'model'.*SAGESMITH_PRETRAINED"):
        small(use_pretrained_model=True, backbone="resnet-101").fit(*TRAIN)


# -- incremental training -------------------------------------------------------------------------------------------
def test_training_goes_on_from_an_earlier_model(tmp_path: Path) -> None:
    earlier = small(epochs=10).fit(*TRAIN, validation=HELD)
    earlier.save(tmp_path)
    run = RecordingRun()
    run.initial_model = tmp_path
    model = small(epochs=1, learning_rate=1e-6).fit(*TRAIN, validation=HELD, run=run)
    assert model.score(*HELD) > earlier.score(*HELD) - 0.1
    assert f"Training goes on from the model in {tmp_path}" in run.lines
    for other in ({"algorithm": "psp"}, {"crop_size": 40}, {"num_classes": 4}, {"backbone": "resnet-101"}):
        name, value = next(iter(other.items()))
        with pytest.raises(HyperparameterError, match=f"has {name} .*, this job {value}: incremental training needs"):
            small(**other).fit(*TRAIN, run=run)


# -- optimisers -------------------------------------------------------------------------------------------------------
def moved(**settings: Any) -> Any:
    """An optimiser over one layer, after two steps with the gradient of a weight being 1 and 2."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    chosen = optimizer_of({"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01, "gamma1": 0.8, "gamma2": 0.7}
                          | settings, layer)  # fmt: skip
    for gradient in (1.0, 2.0):
        layer.weight.grad = torch.full((1, 1), gradient)
        chosen.step()
    return float(layer.weight.detach()[0, 0])


def test_optimisers_take_their_hyperparameters() -> None:
    g1, g2, decay = 1.0 + 0.01, None, 0.01
    w1 = 1 - 0.1 * g1
    g2 = 2.0 + decay * w1
    assert moved(optimizer="sgd") == pytest.approx(w1 - 0.1 * (0.9 * g1 + g2), rel=1e-6)
    n1 = 1 - 0.1 * (g1 + 0.9 * g1)
    m2 = 0.9 * g1 + (2.0 + decay * n1)
    assert moved(optimizer="nag") == pytest.approx(n1 - 0.1 * ((2.0 + decay * n1) + 0.9 * m2), rel=1e-6)
    v1 = 0.2
    s1 = 1.0 / v1**0.5
    v2 = 0.8 * v1 + 0.2 * 4
    expected = 1 - 0.1 * s1 - 0.1 * (0.7 * s1 + 2 / v2**0.5)
    assert moved(optimizer="rmsprop") == pytest.approx(expected, rel=1e-5)
    for name in ("adam", "adagrad", "adadelta"):
        assert moved(optimizer=name) == moved(optimizer=name, momentum=0.5, weight_decay=0.5, gamma1=0.1) < 1


# -- several devices ------------------------------------------------------------------------------------------------
def test_two_devices_with_syncbn_learn_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = RecordingRun(), RecordingRun()
    first = small(epochs=2).fit(*TRAIN, validation=HELD, run=one)
    monkeypatch.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * 2)
    second = small(epochs=2, syncbn=True).fit(*TRAIN, validation=HELD, run=two)
    for what in ("train loss", "validation mIOU"):
        assert found(two.lines, what) == pytest.approx(found(one.lines, what), rel=2e-2)
    assert (first.predict(HELD[0]) == second.predict(HELD[0])).mean() > 0.97
    start = {name: tensor.numpy() for name, tensor in Segmenter(Tiny(), "fcn", 3).state_dict().items()}
    for name, array in second.arrays().items():  # normalisation learns too
        if name.startswith("backbone.") and not name.endswith("tracked"):
            assert not np.array_equal(array, start[name]), name


def test_two_devices_without_syncbn_have_statistics_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = RecordingRun(), RecordingRun()
    small(epochs=1).fit(*TRAIN, run=one)
    monkeypatch.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * 2)
    small(epochs=1).fit(*TRAIN, run=two)
    assert found(two.lines, "train loss") != found(one.lines, "train loss")
    assert found(two.lines, "train loss") == pytest.approx(found(one.lines, "train loss"), rel=0.3)


def test_training_on_two_devices_goes_on_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * 2)
    monkeypatch.setattr(nn.Dropout, "forward", lambda layer, x: x)  # threads would draw in any order
    whole, second = RecordingRun(), Stopping(checkpoints=tmp_path)
    first = Stopping(lambda run: len(found(run.lines, "validation mIOU")) == 1, tmp_path)
    for run in (whole, first, second):
        small(epochs=2).fit(*TRAIN, validation=HELD, run=run)
    expected, (goes_on,) = found(whole.lines, "train loss"), found(second.lines, "train loss")
    assert goes_on == pytest.approx(expected[1], rel=1e-5)


def test_synchronised_normalisation_is_torchs_for_one_copy() -> None:
    torch.manual_seed(0)
    plain = Segmenter(Tiny(), "deeplab", 3).train()
    joined = Segmenter(Tiny(), "deeplab", 3).train()
    joined.load_state_dict(plain.state_dict())
    synchronize(joined)
    for network in (plain, joined):
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    pictures, labels = torch.randint(256, (2, 32, 32, 3)).byte(), torch.randint(3, (2, 32, 32)).byte()
    losses = [network.loss(pictures, labels) for network in (plain, joined)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    for loss in losses:
        loss.backward()
    for (name, own), other in zip(plain.named_parameters(), joined.parameters(), strict=True):
        assert torch.allclose(own.grad, other.grad, rtol=1e-3, atol=1e-5), name
    for own, other in zip(plain.buffers(), joined.buffers(), strict=True):
        if own.is_floating_point():
            assert torch.allclose(own, other, rtol=1e-3, atol=1e-5)
