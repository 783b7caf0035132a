"""What is where: shapes that differ from their ground in texture alone, found pixel by pixel.

    python examples/semantic_segmentation_textures.py [--picture textures.png] [--scenes 192] [--epochs 10]

Scenes are drawn: on a striped ground lie discs of chequers, squares of dots and triangles of slanted stripes, all in
the same random colours, so that only the pattern tells them apart. FCN on a ResNet-50 with random weights learns them
in a few minutes on two cores. The picture shows unseen scenes with their true and predicted classes, the learning
curve and the confusion matrix.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from sagesmith.algorithms import SemanticSegmentation
from sagesmith.algorithms.run import Run

CLASSES = ("stripes", "chequers", "dots", "slanted")
SIDE = 48


class Told(Run):
    """A run that keeps mIOU of every epoch, and says it."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[float] = []

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        pass

    def metric_line(self, line: str) -> None:
        if found := re.search(r"validation mIOU: (\S+)", line):
            self.curve.append(float(found[1]))
            print(f"epoch {len(self.curve)}: mIOU {self.curve[-1]:.3f}", flush=True)


def textures(random: np.random.Generator) -> np.ndarray:
    """The four patterns over the whole scene, (4, SIDE, SIDE) of 0 and 1, shifted at random."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + random.integers(8, size=(2, 1, 1))
    return np.stack(
        [rows // 4 % 2, (rows // 4 + columns // 4) % 2, (rows % 6 < 3) & (columns % 6 < 3), (rows + columns) // 4 % 2]
    )


def shape(kind: int, random: np.random.Generator) -> np.ndarray:
    """The pixels of a disc, square or triangle somewhere in the scene, (SIDE, SIDE) bool."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    size = random.integers(8, 14)
    down, across = rows - random.integers(size, SIDE - size), columns - random.integers(size, SIDE - size)
    if kind == 1:
        return down**2 + across**2 < size**2
    if kind == 2:
        return (np.abs(down) < size * 0.85) & (np.abs(across) < size * 0.85)
    return (down < size) & (2 * np.abs(across) < down + size)


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes (count, SIDE, SIDE, 3) uint8 and the classes of their pixels (count, SIDE, SIDE) uint8."""
    random = np.random.default_rng(seed)
    images, masks = [], []
    for _ in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for kind in random.integers(1, 4, size=random.integers(1, 4)):
            mask[shape(kind, random)] = kind
        pattern = np.take_along_axis(textures(random), mask[None].astype(int), axis=0)[0]
        colours = random.uniform(0, 255, (2, 3))
        colours[1] = (colours[0] + random.uniform(90, 166, 3)) % 256  # the two differ
        image = colours[pattern] + random.normal(0, 12, (SIDE, SIDE, 3))
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return np.stack(images), np.stack(masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--scenes", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    model = SemanticSegmentation(
        num_classes=len(CLASSES), use_pretrained_model=False, base_size=SIDE, crop_size=SIDE, mini_batch_size=8,
        optimizer="adam", learning_rate=0.001, epochs=given.epochs,
    )  # fmt: skip
    held, run = drawn(32, seed=1), Told()
    model.fit(*drawn(given.scenes, seed=0), validation=held, run=run)
    scenes, masks = drawn(32, seed=2)
    counts = model.confusion(scenes, masks)
    share = np.diag(counts) / counts.sum(axis=1)
    print(f"unseen scenes: mIOU {model.score(scenes, masks):.3f}, always the ground {ground(masks):.3f}")
    print("pixels found: " + ", ".join(f"{name} {one:.0%}" for name, one in zip(CLASSES, share, strict=True)))
    if given.picture:
        draw(scenes, masks, model.predict(scenes[:4]), run.curve, counts, given.picture)


def ground(masks: np.ndarray) -> float:
    """mIOU of taking every pixel for the ground."""
    return float((masks == 0).mean()) / len(CLASSES)


def draw(
    scenes: np.ndarray, masks: np.ndarray, predicted: np.ndarray, curve: list[float], counts: np.ndarray, path: Path
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9.6, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(4, 3))
    panels = left.subplots(3, 4)
    for row, (name, shown) in enumerate((("scene", scenes), ("true", masks), ("predicted", predicted))):
        for axes, one in zip(panels[row], shown, strict=False):
            axes.imshow(one, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        panels[row][0].set_ylabel(name)
    upper, lower = right.subplots(2, 1)
    upper.plot(range(1, len(curve) + 1), curve, marker="o")
    upper.set(xlabel="epoch", ylabel="validation mIOU", ylim=(0, 1))
    share = counts / counts.sum(axis=1, keepdims=True)
    lower.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for at, value in np.ndenumerate(share):
        lower.text(at[1], at[0], f"{value:.0%}", ha="center", va="center", color="white" if value > 0.5 else "black")
    lower.set_xticks(range(len(CLASSES)), CLASSES)
    lower.set_yticks(range(len(CLASSES)), CLASSES)
    lower.set(xlabel="taken for", ylabel="is")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
