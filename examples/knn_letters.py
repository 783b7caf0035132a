"""Which letter is it? Exact and approximate neighbours on UCI's letter recognition, and what the approximation costs.

python examples/knn_letters.py [--picture letters.png]
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path

import numpy as np

from sagesmith.algorithms import KNN

DATA = Path(__file__).parent / "data" / "letter-recognition.tsv.gz"
INDEXES = {
    "exact": {},
    "lists": {"index_type": "faiss.IVFFlat"},
    "codes": {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 8},
    "projected": {"dimension_reduction_type": "sign", "dimension_reduction_target": 12},
}


def letters() -> tuple[np.ndarray, np.ndarray]:
    """16 numbers measured on a picture, (20000, 16), and the letter, (20000,)."""
    with gzip.open(DATA, "rt") as file:
        table = np.loadtxt(file, dtype=str, delimiter="\t", skiprows=1)
    return table[:, :-1].astype(np.float32), table[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--picture", metavar="FILE", help="draw which letters are taken for which")
    arguments = parser.parse_args()
    X, y = letters()
    X, X_test, y, y_test = X[:16_000], X[16_000:], y[:16_000], y[16_000:]
    for name, options in INDEXES.items():
        model = KNN(k=5, predictor_type="classifier", **options).fit(X, y)
        started = time.perf_counter()
        accuracy = model.score(X_test, y_test)
        print(f"{name}: accuracy {accuracy:.4f}, 4,000 letters in {time.perf_counter() - started:.2f} s")
    model = KNN(k=5, predictor_type="classifier").fit(X, y)
    distances, labels = model.kneighbors(X_test[:1])
    print(
        f"{y_test[0]} is nearest to {' '.join(model.classes_[labels[0].astype(int)])}, squared distances {distances[0]}"
    )
    if arguments.picture:
        draw(model.classes_, y_test, model.predict(X_test), arguments.picture)


def draw(classes: np.ndarray, truth: np.ndarray, predicted: np.ndarray, path: str) -> None:
    """The confusion matrix without its diagonal."""
    import matplotlib.pyplot as plt

    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (np.searchsorted(classes, truth), np.searchsorted(classes, predicted)), 1)
    np.fill_diagonal(table, 0)
    figure, axes = plt.subplots(figsize=(6, 5.4))
    image = axes.imshow(table, cmap="Blues")
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("letter")
    axes.set_title("Letters taken for others, of 4,000")
    figure.colorbar(image, shrink=0.8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
