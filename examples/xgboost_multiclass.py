"""Which digit is it? Ten classes on scikit-learn's digits, with early stopping and the container's own metrics.

python examples/xgboost_multiclass.py
"""

from __future__ import annotations

import logging

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sagesmith.algorithms import XGBoost


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0, stratify=y)
    X, X_stop, y, y_stop = train_test_split(X, y, random_state=0, stratify=y)
    model = XGBoost(
        objective="multi:softprob", num_class=10, num_round=300, eta=0.2, early_stopping_rounds=10,
        eval_metric=["accuracy", "mlogloss"],
    )  # fmt: skip
    model.fit(X, y, validation=(X_stop, y_stop))
    print(
        f"{model.booster_model.num_boosted_rounds()} rounds kept; held-out accuracy {model.score(X_test, y_test):.4f}"
    )


if __name__ == "__main__":
    main()
