"""Pictures of three classes for the tests of Image Classification: stripes that lie, stand and lean, under noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sagesmith.formats.image_lists import Listed, write_list
from sagesmith.formats.image_records import ImageRecord, RecordWriter
from sagesmith.formats.images import jpeg, png

NAMES = ("lean", "lie", "stand")
SMALL = {"image_shape": "3,16,16", "num_layers": 20, "epochs": 3, "mini_batch_size": 16, "learning_rate": 0.05}


def drawn(count: int, seed: int = 0, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """(count, side, side, 3) uint8 and the classes (count,), in turn 0, 1, 2."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    waves = np.stack([across + down, down, across])[labels] + random.uniform(0, 8, (count, 1, 1))
    shades = 128 + 60 * np.sin(waves * 2 * np.pi / 8)
    colours = random.uniform(0.6, 1.4, (count, 1, 1, 3))
    pixels = shades[..., None] * colours + random.normal(0, 15, (count, side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def folders(root: Path, count: int, seed: int = 0, side: int = 16) -> Path:
    """A folder for each class, with PNG and JPEG files."""
    for number, (image, label) in enumerate(zip(*drawn(count, seed, side), strict=True)):
        folder = root / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        kind, content = ("png", png(image)) if number % 2 else ("jpg", jpeg(image))
        (folder / f"{number}.{kind}").write_bytes(content)
    return root


def listed(root: Path, lists: Path, count: int, seed: int = 0, side: int = 16) -> None:
    """Files in `root`, and a `.lst` in `lists`."""
    root.mkdir(parents=True, exist_ok=True)
    lists.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (image, label) in enumerate(zip(*drawn(count, seed, side), strict=True)):
        (root / f"{number}.jpg").write_bytes(jpeg(image))
        lines.append(Listed(number, np.array([label], np.float32), f"{number}.jpg"))
    write_list(lists / "pictures.lst", lines)


def recorded(path: Path, count: int, seed: int = 0, side: int = 16, multi: bool = False) -> Path:
    """A `.rec` file; `multi`: labels are 0 and 1 for: leaning, lying or standing, and brighter than the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels = drawn(count, seed, side)
    with RecordWriter(path) as writer:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            given = several(image, label) if multi else np.array([label], np.float32)
            writer.write(ImageRecord(given, number, png(image)))
    path.with_suffix(".idx").unlink()  # a pipe would give it as records
    return path


def several(image: np.ndarray, label: int) -> np.ndarray:
    """(3,): whether it lies, whether it stands, whether it is bright."""
    return np.array([label == 1, label == 2, image.mean() > 128], np.float32)
