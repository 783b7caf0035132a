"""Scenes for the tests: a coloured square and a coloured disc on noise; and a small network to learn them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from sagesmith.algorithms.semantic_segmentation import SemanticSegmentation
from sagesmith.algorithms.semantic_segmentation.network import Segmenter
from sagesmith.formats.images import jpeg, png

COLOURS = np.array([[90, 90, 90], [230, 40, 40], [40, 60, 230]], np.float32)


def drawn(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures (H, W, 3) uint8 and masks (H, W) uint8: 0 the ground, 1 a square, 2 a disc, 255 a frame of one pixel."""
    random = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    images, masks = [], []
    for _ in range(count):
        mask = np.zeros(size, np.uint8)
        top, left, side = random.integers(2, height // 2), random.integers(2, width // 2), random.integers(14, 22)
        mask[top : top + side, left : left + side] = 1
        row, column = random.integers(8, height - 8), random.integers(8, width - 8)
        mask[(rows - row) ** 2 + (columns - column) ** 2 < random.integers(7, 11) ** 2] = 2
        images.append(np.clip(COLOURS[mask] + random.normal(0, 25, (*size, 3)), 0, 255).astype(np.uint8))
        mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = 255
        masks.append(mask)
    return images, masks


def written(folder: Path, images: list[np.ndarray], masks: list[np.ndarray], name: str = "train") -> tuple[Path, Path]:
    """The folders of pictures (JPEG) and masks (PNG), below `folder`."""
    made = folder / name, folder / f"{name}_annotation"
    for path in made:
        path.mkdir(parents=True, exist_ok=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        (made[0] / f"scene{number}.jpg").write_bytes(jpeg(image))
        (made[1] / f"scene{number}.png").write_bytes(png(mask))
    return made


class Tiny(nn.Module):
    """A backbone of four convolutions with the interface of a residual network's."""

    widths = (8, 16, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        inner, stages = 3, []
        for outer, stride in zip(self.widths, (2, 2, 2, 1), strict=True):
            convolution = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
            stages.append(nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU()))
            inner = outer
        self.stages = nn.ModuleList(stages)

    def features(self, pictures: Tensor) -> tuple[Tensor, ...]:
        found = []
        for stage in self.stages:
            pictures = stage(pictures)
            found.append(pictures)
        return tuple(found)


def tiny_of(backbone: str, algorithm: str, classes: int) -> Segmenter:
    """In place of Segmenter.of: a small network."""
    return Segmenter(Tiny(), algorithm, classes)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks under the names of the large ones."""
    monkeypatch.setattr(Segmenter, "of", tiny_of)


SMALL = {
    "num_classes": 3, "use_pretrained_model": False, "base_size": 64, "crop_size": 32, "mini_batch_size": 8,
    "learning_rate": 0.1, "epochs": 12,
}  # fmt: skip


def small(**settings: object) -> SemanticSegmentation:
    return SemanticSegmentation(**SMALL | settings)
