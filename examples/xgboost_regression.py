"""How far will the disease progress? Regression on scikit-learn's diabetes data, judged by five-fold cross-validation.

python examples/xgboost_regression.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.run import Run


def main() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = XGBoost(num_round=60, eta=0.08, max_depth=3, subsample=0.8, kfold=5, num_cv_round=2)
    with tempfile.TemporaryDirectory() as folder:
        run = Run()
        run.output = Path(folder)
        model.fit(X, y, run=run)
        truth, predicted = np.loadtxt(Path(folder) / "predictions.csv", delimiter=",").T
    rmse = float(np.sqrt(np.mean((truth - predicted) ** 2)))
    print(f"rows left out of training: RMSE {rmse:.1f}, always guessing the mean {truth.std():.1f}")
    print("the ensemble of all folds predicts", np.round(model.predict(X[:3]), 1), "for", y[:3])


if __name__ == "__main__":
    main()
