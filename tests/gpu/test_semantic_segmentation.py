"""Semantic Segmentation on a GPU: `python -m pytest tests/gpu/test_semantic_segmentation.py`. Skipped without CUDA."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import nets
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.semantic_segmentation import SemanticSegmentation
from sagesmith.algorithms.semantic_segmentation.heads import HEADS, Dilated
from tests.algorithms.semantic_segmentation_scenes import drawn, small

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")

TRAIN, HELD = drawn(48), drawn(8, seed=1)
SETTINGS: dict[str, Any] = {"learning_rate": 0.02, "epochs": 8}


class OnGpu(Run):
    """A run that keeps its log."""

    def __init__(self, gpus: int = 1) -> None:
        super().__init__()
        self.gpus, self.lines = gpus, []

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        self.lines.append(message % arguments if arguments else message)

    def metric_line(self, line: str) -> None:
        self.lines.append(line)

    def found(self, what: str) -> list[float]:
        return [float(found) for found in re.findall(rf"{what}: (\S+) \.", "\n".join(self.lines))]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorFloat-32, whose products are rounded to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def trained() -> tuple[SemanticSegmentation, OnGpu]:
    run = OnGpu()
    return small(**SETTINGS).fit(*TRAIN, validation=HELD, run=run), run


def test_the_loss_falls_on_the_gpu(trained: tuple[SemanticSegmentation, OnGpu]) -> None:
    model, run = trained
    losses = run.found("train loss")
    assert next(model.network_.parameters()).device.type == "cuda"
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
    assert max(run.found("validation mIOU")) > 0.3


def test_what_a_gpu_saved_answers_on_a_cpu(
    trained: tuple[SemanticSegmentation, OnGpu], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = trained
    model.save(tmp_path)
    monkeypatch.setattr(nets, "serving_device", lambda: torch.device("cpu"))
    loaded = SemanticSegmentation.load(tmp_path)
    assert next(loaded.network_.parameters()).device.type == "cpu"
    assert (loaded.predict(HELD[0]) == model.predict(HELD[0])).mean() > 0.97
    found, expected = loaded.probabilities_of(HELD[0][0]), model.probabilities_of(HELD[0][0])
    assert np.abs(found - expected).mean() < 0.01


def test_confusion_is_counted_alike(trained: tuple[SemanticSegmentation, OnGpu]) -> None:
    model, _ = trained
    counts = model.confusion(*HELD)
    predicted = model.predict(HELD[0])
    assert counts.sum() == sum(int((mask != 255).sum()) for mask in HELD[1])
    right = sum(int((mask == one).sum()) for mask, one in zip(HELD[1], predicted, strict=True))
    assert int(np.trace(counts)) == pytest.approx(right, rel=0.01)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_the_same_on_both(name: str) -> None:
    torch.manual_seed(0)
    head = HEADS[name](64, 5).eval()
    maps = torch.randn(2, 64, 14, 14)
    with torch.inference_mode():
        expected = head(maps)
        found = head.cuda()(maps.cuda()).cpu()
    assert torch.allclose(found, expected, atol=1e-3, rtol=1e-3)


def test_a_dilation_beyond_the_map_is_one_tap() -> None:
    layer, maps = Dilated(8, 4, 12).cuda(), torch.randn(2, 8, 10, 10, device="cuda")
    plain = torch.nn.functional.conv2d(maps, layer.weight, padding=12, dilation=12)
    assert torch.allclose(layer(maps), plain, atol=1e-4)


@pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="a GPU has one thread for backward passes that wait for others"
)
def test_copies_with_syncbn_learn_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = OnGpu(), OnGpu()
    small(**SETTINGS | {"epochs": 2}).fit(*TRAIN, run=one)
    devices = [torch.device("cuda", number % torch.cuda.device_count()) for number in range(2)]
    monkeypatch.setattr(nets, "every_device", lambda run: devices)
    small(**SETTINGS | {"epochs": 2, "syncbn": True}).fit(*TRAIN, run=two)
    assert two.found("train loss") == pytest.approx(one.found("train loss"), rel=0.1)
