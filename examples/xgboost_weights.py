"""Rows that count more: the census data with a weight column in its CSV (`csv_weights=1`).

Missing a high earner is made ten times as bad as a false alarm: recall rises, precision falls.

    python examples/xgboost_weights.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import sagesmith
from sagesmith.algorithms import XGBoost
from sagesmith.formats.channel import Channel

DATA = Path(sagesmith.__file__).parent / "examples_data"


def main() -> None:
    rows = Channel.from_folder("train", DATA / "adult-train.csv.gz", "text/csv").read()
    held = Channel.from_folder("test", DATA / "adult-test.csv.gz", "text/csv").read()
    for importance in (1, 10):
        weight = np.where(rows.label == 1, importance, 1)
        with tempfile.TemporaryDirectory() as folder:
            table = np.column_stack([rows.label, weight, rows.features])
            np.savetxt(Path(folder) / "train.csv", table, delimiter=",", fmt="%g")
            channel = Channel.from_folder("train", Path(folder), "text/csv")
            model = XGBoost(objective="binary:logistic", num_round=60, csv_weights=1).fit(channel)
        found = model.predict(held.features) == 1
        right = found & (held.label == 1)
        print(
            f"high earners count {importance:2d} times: recall {right.sum() / (held.label == 1).sum():.3f}, "
            f"precision {right.sum() / found.sum():.3f}"
        )


if __name__ == "__main__":
    main()
