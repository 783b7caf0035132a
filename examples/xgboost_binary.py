"""Who earns more than 50,000 dollars? Binary classification on census data, AUC on held-out rows.

python examples/xgboost_binary.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import sagesmith
from sagesmith.algorithms import XGBoost
from sagesmith.formats.channel import Channel

DATA = Path(sagesmith.__file__).parent / "examples_data"


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve: how often a positive row scores higher than a negative one; ties count half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = truth > 0
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * m))


def main() -> None:
    train = Channel.from_folder("train", DATA / "adult-train.csv.gz", "text/csv")
    test = Channel.from_folder("validation", DATA / "adult-test.csv.gz", "text/csv")
    model = XGBoost(objective="binary:logistic", num_round=150, eta=0.15, max_depth=5, eval_metric="auc")
    model.fit(train, validation=test)
    rows = test.read()
    probability = model.predict_proba(rows.features)[:, 1]
    print(f"trained on {len(train.read())} rows; held-out AUC {auc(rows.label, probability):.4f}")
    print("the first five people:", np.round(probability[:5], 3), "earn more:", model.predict(rows.features[:5]))


if __name__ == "__main__":
    main()
