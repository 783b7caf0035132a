"""Object Detection on a GPU: it learns there, finds what the CPU finds, and its model is read on either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.object_detection.default_boxes import default_boxes
from sagesmith.algorithms.object_detection.losses import loss_of
from sagesmith.algorithms.object_detection.matching import match
from sagesmith.algorithms.object_detection.network import Detector, detector
from sagesmith.algorithms.object_detection.samples import padded
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.detection_scenes import drawn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")

SETTINGS = {
    "num_classes": 2, "num_training_samples": 64, "use_pretrained_model": 0, "mini_batch_size": 16,
    "base_network": "resnet-50", "optimizer": "adam", "learning_rate": 0.0005,
}  # fmt: skip


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorFloat-32, whose products are rounded to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


class OnOne(RecordingRun):
    """A run on one GPU, or on none."""

    def __init__(self, gpus: int) -> None:
        super().__init__()
        self.gpus, self.threads = gpus, 4


def test_it_learns_on_the_gpu_and_finds_the_same_on_the_cpu(tmp_path: Path) -> None:
    run = OnOne(1)
    held = drawn(16, seed=1)
    model = ObjectDetection(**SETTINGS, epochs=15).fit(*drawn(64), validation=held, run=run)
    assert next(model.network_.parameters()).device.type == "cuda"
    losses = [float(line.split("=(")[1][:-1]) for line in run.lines if "train cross_entropy" in line]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]
    assert model.score(*held) > 0.3
    model.save(tmp_path)
    twin = ObjectDetection.load(tmp_path)
    on_gpu = twin.predict(held[0])
    twin.network_ = twin.network_.cpu()
    on_cpu = twin.predict(held[0])
    for first, second in zip(on_gpu, on_cpu, strict=True):
        sure = first[first[:, 1] > 0.3]
        assert np.allclose(sure, second[: len(sure)], atol=2e-3)


@pytest.mark.parametrize("name", ["vgg-16", "resnet-50"])
def test_a_step_has_the_loss_and_gradients_of_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    network = detector(name, 2, 300)
    images, objects = drawn(4, side=300)
    found = []
    for device in ("cpu", "cuda"):
        found.append(_step(network.to(device), images, objects, device))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    for first, second in zip(found[0][1], found[1][1], strict=True):
        assert (first - second).norm() <= 0.02 * first.norm() + 1e-4


def _step(
    network: Detector, images: list[np.ndarray], objects: list[np.ndarray], device: str
) -> tuple[float, list[torch.Tensor]]:
    network.train().zero_grad(set_to_none=True)
    together = torch.from_numpy(padded(objects)).to(device)
    logits, offsets = network(torch.from_numpy(np.stack(images)).to(device))
    with torch.no_grad():
        wanted, owner = match(network.defaults, together[..., 1:], together[..., 0])
    loss = loss_of(logits, offsets, wanted, owner, together[..., 1:], network.defaults).value
    loss.backward()
    return loss.item(), [head.weight.grad.cpu().clone() for head in network.heads]  # type: ignore[union-attr]


def test_matching_on_the_gpu_is_that_of_the_cpu() -> None:
    defaults = torch.from_numpy(default_boxes(512))
    together = torch.from_numpy(padded(drawn(16, most=12)[1]))
    on_cpu = match(defaults, together[..., 1:], together[..., 0])
    on_gpu = match(defaults.cuda(), together[..., 1:].cuda(), together[..., 0].cuda())
    same = (on_cpu[0] == on_gpu[0].cpu()).float().mean().item()
    assert same > 0.9999  # overlaps of exactly one half may be rounded to either side


def test_half_precision_learns_as_well() -> None:
    """Not a hyperparameter of this algorithm; the network and its loss bear autocast all the same."""
    torch.manual_seed(0)
    network = detector("resnet-50", 2, 300).cuda().train()
    chosen = torch.optim.Adam(network.parameters(), 0.0005)
    images, objects = drawn(16)
    together = torch.from_numpy(padded(objects)).cuda()
    pixels = torch.from_numpy(np.stack([np.kron(image, np.ones((3, 3, 1), np.uint8)) for image in images])).cuda()
    pixels = torch.nn.functional.pad(pixels, (0, 0, 6, 6, 6, 6))
    losses = []
    for _ in range(25):
        with torch.autocast("cuda", torch.bfloat16):
            logits, offsets = network(pixels)
        wanted, owner = match(network.defaults, together[..., 1:], together[..., 0])
        loss = loss_of(logits, offsets, wanted, owner, together[..., 1:], network.defaults).value
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        chosen.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]
