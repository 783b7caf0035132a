"""Twenty thousand pictures of letters, sixteen measurements each: how few numbers say what they say.

python examples/pca_letters.py [--picture FILE]

Keeps 2, 4, 8 and 12 of 16 dimensions, prints how much of the held-out rows' variance they keep and how well their
letters are still told apart by the nearest of the training rows, and draws the first two components.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np

from sagesmith.algorithms import PCA

DATA = Path(__file__).parent / "data" / "letter-recognition.tsv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", help="a file for the picture (png, svg)")
    picture = parser.parse_args().picture
    X, letters = read()
    train, test = slice(0, 16_000), slice(16_000, 18_000)
    for components in (2, 4, 8, 12, 16):
        model = PCA(num_components=components).fit(X[train])
        right = nearest(model.transform(X[train]), model.transform(X[test]), letters[train]) == letters[test]
        print(
            f"{components:2d} components keep {model.score(X[test]):.3f} of the variance; {right.mean():.3f} told right"
        )
    if picture:
        draw(PCA(num_components=2).fit(X[train]).transform(X[test]), letters[test], picture)


def read() -> tuple[np.ndarray, np.ndarray]:
    """(20000, 16) numbers and (20000,) letters."""
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    return np.array([row[:-1] for row in rows], np.float32), np.array([row[-1] for row in rows])


def nearest(known: np.ndarray, asked: np.ndarray, letters: np.ndarray) -> np.ndarray:
    """The letter of the nearest known row, for every row asked."""
    found = []
    for part in np.array_split(asked, 10):
        found.append(letters[((known**2).sum(axis=1) - 2 * part @ known.T).argmin(axis=1)])
    return np.concatenate(found)


def draw(projections: np.ndarray, letters: np.ndarray, file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for letter in "AILMW":
        chosen = projections[letters == letter]
        axes.scatter(chosen[:, 1], chosen[:, 0], s=9, label=letter)  # the last column is the first component
    axes.set(xlabel="first component", ylabel="second component", title="Letters by two of sixteen dimensions")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
