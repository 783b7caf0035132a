"""Ten clusters of handwritten digits, found without their labels; the centers are pictures.

python examples/kmeans_digits.py [--picture FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans as Reference
from sklearn.datasets import load_digits

from sagesmith.algorithms import KMeans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path, help="draw the centers into this file")
    picture = parser.parse_args().picture
    X, digits = load_digits(return_X_y=True)  # 1,797 pictures of 8 x 8 pixels
    model = KMeans(k=10, epochs=3, mini_batch_size=500).fit(X)

    best = Reference(10, n_init=10, random_state=0).fit(X).inertia_
    print(
        f"sum of squared distances {model.inertia_:,.0f}, {model.inertia_ / best:.4f} times scikit-learn's best of ten"
    )

    names = [int(np.bincount(digits[model.labels_ == cluster]).argmax()) for cluster in range(10)]
    right = float(np.mean(np.asarray(names)[model.labels_] == digits))
    print(
        f"each cluster named after its commonest digit, {', '.join(map(str, names))}: {right:.3f} of the pictures right"
    )

    farthest = int(model.transform(X).min(axis=1).argmax())
    print(f"the picture least like any center is number {farthest}, a {digits[farthest]}")
    if picture:
        draw(model.cluster_centers_, names, picture)


def draw(centers: np.ndarray, names: list[int], path: Path) -> None:
    """The centers as pictures, each above the digit that most of its cluster are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(2, 5, figsize=(6, 2.8))
    for axis, cluster in zip(axes.flat, np.argsort(names, kind="stable"), strict=True):
        axis.imshow(centers[cluster].reshape(8, 8), cmap="gray_r")
        axis.set_title(str(names[cluster]), y=-0.25)
        axis.axis("off")
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
