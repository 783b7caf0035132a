"""Scenes with objects to be found, pictures in SageMaker's forms, and a small network, for the tests of detection."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from sagesmith.algorithms.object_detection.network import Trunk
from sagesmith.formats.image_records import ImageRecord, RecordWriter
from sagesmith.formats.images import jpeg

COLOURS = np.array([[210, 60, 50], [60, 90, 210]], np.uint8)


def drawn(count: int, seed: int = 0, side: int = 96, most: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures of striped discs (class 0) and plain squares (class 1), and their objects in shares of the picture."""
    random = np.random.default_rng(seed)
    images, objects = [], []
    y, x = np.mgrid[:side, :side]
    for _ in range(count):
        image = np.clip(random.normal(128, 18, (side, side, 3)), 0, 255).astype(np.uint8)
        rows = []
        for _ in range(int(random.integers(1, most + 1))):
            size = int(random.integers(side // 5, side // 2))
            left, top = random.integers(0, side - size, 2)
            kind = int(random.integers(2))
            inside = (x >= left) & (x < left + size) & (y >= top) & (y < top + size)
            if kind == 0:
                inside &= (x - left - size / 2) ** 2 + (y - top - size / 2) ** 2 <= (size / 2) ** 2
                inside &= y % 4 < 3
            image[inside] = COLOURS[kind]
            rows.append([kind, left / side, top / side, (left + size) / side, (top + size) / side])
        images.append(image)
        objects.append(np.array(rows, np.float32))
    return images, objects


def annotation(file: str, image: np.ndarray, objects: np.ndarray) -> dict[str, object]:
    """The JSON annotation of a picture."""
    height, width = image.shape[:2]
    boxes = np.rint(objects[:, 1:] * np.array([width, height, width, height])).astype(int).tolist()
    return {
        "file": file,
        "image_size": [{"width": width, "height": height, "depth": 3}],
        "annotations": [
            {"class_id": int(row[0]), "left": a, "top": b, "width": c - a, "height": d - b}
            for row, (a, b, c, d) in zip(objects, boxes, strict=True)
        ],
        "categories": [{"class_id": 0, "name": "disc"}, {"class_id": 1, "name": "square"}],
    }


def write_folders(base: Path, name: str, images: list[np.ndarray], objects: list[np.ndarray]) -> tuple[Path, Path]:
    """The folders of the channels `name` and `<name>_annotation`."""
    pictures, annotations = base / name, base / f"{name}_annotation"
    for folder in (pictures, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    for number, (image, one) in enumerate(zip(images, objects, strict=True)):
        (pictures / f"{number:03}.jpg").write_bytes(jpeg(image))
        (annotations / f"{number:03}.json").write_text(json.dumps(annotation(f"{number:03}.jpg", image, one)))
    return pictures, annotations


def label_vector(objects: np.ndarray) -> np.ndarray:
    """The label of a record, as im2rec --pack-label makes it."""
    return np.concatenate([[2, 5], objects.ravel()]).astype(np.float32)


def write_records(path: Path, images: list[np.ndarray], objects: list[np.ndarray]) -> Path:
    """A `.rec` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with RecordWriter(path) as writer:
        for number, (image, one) in enumerate(zip(images, objects, strict=True)):
            writer.write(ImageRecord(label_vector(one), number, jpeg(image)))
    return path


class SmallTrunk(Trunk):
    """Two maps at strides 8 and 16 from a few convolutions."""

    def __init__(self, normalised: bool = True) -> None:
        super().__init__()
        self.normalised = normalised
        steps: list[nn.Module] = []
        for inner, outer in ((3, 8), (8, 16), (16, 32)):
            steps.append(nn.Conv2d(inner, outer, 3, 2, 1))
            steps += [nn.BatchNorm2d(outer)] if normalised else []
            steps.append(nn.ReLU())
        self.base = nn.Sequential(*steps)
        self.conv2_1 = nn.Conv2d(32, 32, 3, 2, 1)
        self.widths = (32, 32)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        first = self.base(pictures)
        return first, self.conv2_1(first).relu()

    def named_layers(self) -> dict[str, str]:
        return {"conv1_1": "base", "conv2_1": "conv2_1"}
