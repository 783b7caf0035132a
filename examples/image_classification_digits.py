"""Which digit is it? A residual network of 20 layers on scikit-learn's handwritten digits, from folders of PNG files.

    python examples/image_classification_digits.py [--picture digits.png] [--epochs 8]

Writes the digits, 8 x 8 pixels, as a folder for each class, learns from three quarters of them and looks at the rest:
a learning curve, a confusion matrix, and some digits with what was said of them.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sagesmith.algorithms import ImageClassification
from sagesmith.algorithms.run import Run
from sagesmith.formats.images import png


class Curve(Run):
    """A run that keeps the accuracies of its log."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[float]] = {"Train": [], "Validation": []}

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        line = message % arguments
        if match := re.match(r"Epoch\[\d+\] (Train|Validation)-accuracy=(\S+)", line):
            self.found[match[1]].append(float(match[2]))
            print(line)


def folders(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Writes train/<digit>/*.png and held/<digit>/*.png; returns the pixels and classes of the latter."""
    pixels, labels = load_digits(return_X_y=True)
    pictures = np.repeat(np.repeat(np.round(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), 2, 1), 2, 2)
    held = np.random.default_rng(0).permutation(len(labels)) < len(labels) // 4
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        folder = root / ("held" if held[number] else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(picture))
    linear = LogisticRegression(max_iter=1000).fit(pixels[~held] / 16, labels[~held])
    print(f"logistic regression on the pixels: accuracy {linear.score(pixels[held] / 16, labels[held]):.4f}")
    return pictures[held], labels[held]


def draw(
    curve: Curve, confusion: np.ndarray, pictures: np.ndarray, said: np.ndarray, true: np.ndarray, to: Path
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1, 1.1))
    axes = left.subplots()
    for name, values in curve.found.items():
        axes.plot(np.arange(1, len(values) + 1), values, label=name.lower())
    axes.set(xlabel="epoch", ylabel="accuracy", ylim=(None, 1.0))
    axes.legend()
    axes = middle.subplots()
    axes.imshow(confusion, cmap="Blues", norm="symlog")
    axes.set(xlabel="said", ylabel="written", xticks=range(10), yticks=range(10))
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color="w" if count > 9 else "k", fontsize=7)
    wrong_first = np.argsort(said == true, kind="stable")[:20]
    for axes, at in zip(right.subplots(4, 5).flat, wrong_first, strict=True):
        axes.imshow(pictures[at], cmap="gray_r")
        axes.set_title(said[at], fontsize=9, color="tab:green" if said[at] == true[at] else "tab:red", pad=2)
        axes.axis("off")
    figure.savefig(to, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    curve = Curve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pictures, true = folders(root)
        model = ImageClassification(
            image_shape="1,16,16", num_layers=20, epochs=given.epochs, mini_batch_size=32, learning_rate=0.1,
            lr_scheduler_step=f"{given.epochs * 2 // 3}",
        )  # fmt: skip
        model.fit(root / "train", validation=root / "held", run=curve)
    said = model.predict(pictures[..., None]).astype(int)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (true, said), 1)
    print(f"ResNet-20: accuracy {(said == true).mean():.4f}, {(said != true).sum()} of {len(true)} digits wrong")
    if given.picture:
        draw(curve, confusion, pictures, said, true, given.picture)


if __name__ == "__main__":
    main()
