"""Linear Learner on Adult: one model for each criterion by which a threshold can be chosen, and what each keeps.

    python examples/linear_learner_thresholds.py [--picture thresholds.png]

Who earns more than 50,000 dollars a year? (UCI Adult, in sagesmith/examples_data.) Every run trains 32 models side by
side. The picture shows precision and recall of the test rows for all thresholds, and where each criterion stands.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import sagesmith
from sagesmith.algorithms import LinearLearner
from sagesmith.formats.channel import Channel

DATA = Path(sagesmith.__file__).parent / "examples_data"
CRITERIA: dict[str, dict[str, Any]] = {
    "accuracy": {},
    "f1": {},
    "precision_at_target_recall": {"target_recall": 0.9},
    "recall_at_target_precision": {"target_precision": 0.8},
}


def rows(name: str, mean: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and means; a missing value is replaced by the column's mean."""
    batch = Channel.from_folder(name, DATA / f"adult-{name}.csv.gz", "text/csv").read()
    features, label = np.asarray(batch.features), np.asarray(batch.label)
    mean = np.nanmean(features, axis=0) if mean is None else mean
    return np.where(np.isnan(features), mean, features), label, mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path, help="file to draw to (matplotlib)")
    options = parser.parse_args()
    X, y, mean = rows("train")
    held, truth, _ = rows("test", mean)
    points = {}
    for criterion, settings in CRITERIA.items():
        model = LinearLearner(
            predictor_type="binary_classifier", binary_classifier_model_selection_criteria=criterion, **settings
        ).fit(X, y)
        called = model.predict(held) > 0
        right = (called & (truth > 0)).sum()
        precision, recall = right / called.sum(), right / truth.sum()
        points[criterion] = (recall, precision)
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        print(
            f"{criterion:27s} threshold {model.threshold:.3f}: accuracy {(called == (truth > 0)).mean():.4f}, "
            f"precision {precision:.3f}, recall {recall:.3f}  {told}"
        )
    if options.picture:
        draw(options.picture, model.predict_proba(held)[:, 1], truth > 0, points)


def draw(path: Path, score: np.ndarray, positive: np.ndarray, points: dict[str, tuple[float, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = positive[np.argsort(-score)].cumsum()
    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    axes.plot(found / found[-1], found / np.arange(1, len(found) + 1), color="0.6", label="all thresholds")
    for name, (recall, precision) in points.items():
        axes.plot(recall, precision, "o", label=name)
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title="Adult, test rows")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
