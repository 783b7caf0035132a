"""Where are the discs, squares and triangles? A detector learnt from nothing, on generated scenes of textured shapes.

    python examples/object_detection_shapes.py [--pictures 72] [--epochs 8] [--held 24] [--picture scenes.png]

Writes pictures and annotations as SageMaker's channels have them, learns with random weights on ResNet-50 (a few
minutes on two cores; real tasks begin with published weights), and draws what is found in unseen scenes.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.run import Run

NAMES = ("disc", "square", "triangle")
COLOURS = np.array([[220, 80, 60], [70, 110, 230], [235, 200, 60]])  # of each kind, about
SIDE = 300


def scene(random: np.random.Generator) -> tuple[np.ndarray, list[dict[str, int]]]:
    """A picture (SIDE, SIDE, 3) uint8 and its annotations: shapes filled with stripes, checks or dots."""
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = 30 * np.sin(x / random.uniform(10, 40) + y / random.uniform(10, 40) + random.uniform(0, 6))
    image = 120 + waves[..., None] + random.normal(0, 15, (SIDE, SIDE, 3)) + random.uniform(-40, 40, 3)
    annotations = []
    for _ in range(random.integers(1, 5)):
        kind, size = int(random.integers(3)), int(random.integers(50, 140))
        left, top = (int(value) for value in random.integers(0, SIDE - size, 2))
        u, v = (x - left) / size, (y - top) / size
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        if kind == 0:
            inside &= (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.25
        elif kind == 2:
            inside &= np.abs(u - 0.5) < v / 2
        fine = int(random.integers(6, 14))
        texture = ((x + y) // fine % 2, (x // fine + y // fine) % 2, (x // fine % 2) & (y // fine % 2))[kind]
        colours = np.clip(COLOURS[kind] + random.uniform(-40, 40, 3), 0, 255) * np.array([[1.0], [0.45]])  # light, dark
        image[inside] = colours[texture[inside]]
        annotations.append({"class_id": kind, "left": left, "top": top, "width": size, "height": size})
    return np.clip(image, 0, 255).astype(np.uint8), annotations


def write(folder: Path, channel: str, count: int, seed: int) -> tuple[Path, Path]:
    """`count` scenes in the folders `channel` and `<channel>_annotation`."""
    random = np.random.default_rng(seed)
    pictures, annotations = folder / channel, folder / f"{channel}_annotation"
    pictures.mkdir()
    annotations.mkdir()
    for number in range(count):
        image, found = scene(random)
        Image.fromarray(image).save(pictures / f"{number:03}.jpg", quality=92)
        document = {
            "file": f"{number:03}.jpg",
            "image_size": [{"width": SIDE, "height": SIDE, "depth": 3}],
            "annotations": found,
            "categories": [{"class_id": k, "name": name} for k, name in enumerate(NAMES)],
        }
        (annotations / f"{number:03}.json").write_text(json.dumps(document))
    return pictures, annotations


class Printing(Run):
    """A run that prints its metrics and keeps the mAP and the loss of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: dict[str, list[float]] = {"train cross_entropy": [], "validation mAP": []}

    def metric_line(self, line: str) -> None:
        for name, values in self.curves.items():
            if found := re.search(rf"{name} <\w+>=\((\S+)\)", line):
                values.append(float(found[1]))
                print(f"epoch {len(values) - 1}: {name} {values[-1]:.3f}", flush=True)


def draw(model: ObjectDetection, pictures: Path, curves: dict[str, list[float]], path: Path) -> None:
    """Detections in six scenes, and the learning curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
    files = sorted(pictures.iterdir())[:6]
    axes: Any
    for axes, file, found in zip(grid[:, :3].flat, files, model.predict(files), strict=True):
        axes.imshow(Image.open(file))
        axes.axis("off")
        for number, score, left, top, right, bottom in found[found[:, 1] > 0.4]:
            corner, size = (left * SIDE, top * SIDE), ((right - left) * SIDE, (bottom - top) * SIDE)
            axes.add_patch(plt.Rectangle(corner, *size, fill=False, lw=2, ec=f"C{int(number)}"))
            box = {"fc": f"C{int(number)}", "ec": "none", "pad": 1.5}
            axes.text(*corner, f"{NAMES[int(number)]} {score:.2f}", fontsize=7, color="w", bbox=box)
    for axes, (name, values) in zip(grid[:, 3], curves.items(), strict=True):
        axes.plot(values)
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=72)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--held", type=int, default=24, help="scenes that are not learnt from")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        learnt = write(Path(temporary), "train", given.pictures, seed=1)
        held = write(Path(temporary), "validation", given.held, seed=2)
        model = ObjectDetection(
            num_classes=3, num_training_samples=given.pictures, base_network="resnet-50", use_pretrained_model=0,
            epochs=given.epochs, mini_batch_size=4, optimizer="adam", learning_rate=0.001,
            lr_scheduler_step=str(max(1, given.epochs * 3 // 4)),
        )  # fmt: skip
        run = Printing()
        model.fit(*learnt, validation=held, run=run)
        print(
            f"mAP in {given.held} unseen scenes: {max(run.curves['validation mAP']):.3f}"
        )  # the best epoch's, which is kept
        if given.picture:
            draw(model, held[0], run.curves, given.picture)


if __name__ == "__main__":
    main()
