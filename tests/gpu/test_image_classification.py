"""Image Classification on a GPU: falling losses, the CPU's answers, mixed precision, weights from GPU to CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not torch.cuda.is_available():
    pytest.skip("no GPU that PyTorch can use", allow_module_level=True)

from sagesmith.algorithms import ImageClassification, nets  # noqa: E402
from sagesmith.algorithms.backbones.pixels import standardized  # noqa: E402
from sagesmith.algorithms.backbones.resnet import ResNet  # noqa: E402
from sagesmith.algorithms.image_classification.network import OneClass, network_of  # noqa: E402
from sagesmith.algorithms.image_classification.training import learning  # noqa: E402
from sagesmith.algorithms.replicas import Precision  # noqa: E402
from sagesmith.algorithms.run import Run  # noqa: E402
from tests.algorithms.classification_pictures import SMALL, drawn  # noqa: E402

TRAIN, HELD = drawn(192), drawn(48, seed=1)


class Kept(Run):
    """A run on the GPU that keeps its log."""

    def __init__(self) -> None:
        super().__init__()
        self.gpus = max(1, self.gpus)
        self.lines: list[str] = []

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        self.lines.append(message % arguments if arguments else message)


def fitted(**settings: Any) -> tuple[ImageClassification, Kept]:
    run = Kept()
    return ImageClassification(**SMALL | {"epochs": 4} | settings).fit(*TRAIN, validation=HELD, run=run), run


def losses(precision: str, devices: int = 1) -> list[float]:
    """Of twelve steps on one batch."""
    run, device = Kept(), torch.device("cuda", 0)
    team = nets.Team(run, seed=0, devices=[device] * devices)
    network = team.copied(network_of({"image_shape": "3,16,16", "num_layers": 20}, 3)).train()
    chosen = nets.optimizer("sgd", network, 0.05, 1e-4, 0.9)
    stepper = nets.Stepper(network, chosen, team, precision=Precision(precision, device, run))
    task, found = OneClass(), []
    images, labels = torch.from_numpy(TRAIN[0][:96]).to(device), torch.from_numpy(TRAIN[1][:96]).to(device)

    def noted(copy: Any, part: Any) -> Any:
        loss, rows = learning(task, [])(copy, part)
        found.append(loss.detach())
        return loss, rows

    for _ in range(12):
        stepper.learn(noted, list(zip(images.chunk(devices), labels.chunk(devices), strict=True)))
    return [float(loss) for loss in found]


@pytest.mark.parametrize(("precision", "devices"), [("float32", 1), ("float16", 1), ("float32", 2)])
def test_the_loss_falls(precision: str, devices: int) -> None:
    seen = losses(precision, devices)
    assert np.isfinite(seen).all()
    assert np.mean(seen[-2:]) < 0.5 * np.mean(seen[:2])


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_pictures_are_told_apart(precision: str) -> None:
    model, run = fitted(precision_dtype=precision)
    assert model.score(*HELD) > 0.8
    assert next(model.network_.parameters()).is_cuda
    assert not any("bfloat16" in line for line in run.lines)


def test_a_model_of_the_gpu_answers_alike_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = fitted(epochs=2)
    model.save(tmp_path)
    there = ImageClassification.load(tmp_path)
    monkeypatch.setattr(nets, "serving_device", lambda: torch.device("cpu"))
    here = ImageClassification.load(tmp_path)
    assert next(there.network_.parameters()).is_cuda
    assert not next(here.network_.parameters()).is_cuda
    np.testing.assert_allclose(here.predict_proba(HELD[0]), there.predict_proba(HELD[0]), atol=5e-3)
    np.testing.assert_array_equal(there.predict_proba(HELD[0]), model.predict_proba(HELD[0]))


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run = Kept()
    run.checkpoints = tmp_path
    for epochs in (1, 3):
        model = ImageClassification(**SMALL | {"epochs": epochs, "precision_dtype": "float16"})
        model.fit(*TRAIN, validation=HELD, run=run)
    assert "Training goes on after epoch 0" in run.lines
    assert sum("Validation-accuracy" in line for line in run.lines) == 3


def test_features_are_the_cpus() -> None:
    torch.manual_seed(0)
    network, pixels = ResNet(50).eval(), torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        here = network.features(standardized(pixels))
        there = network.to("cuda").features(standardized(pixels.cuda()))
    for one, other in zip(here, there, strict=True):
        assert (other.cpu() - one).norm() < 0.02 * one.norm()
