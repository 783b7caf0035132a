"""Saves the model in MLflow's form, with MLflow's own Python: `mlflow_save.py MODEL FOLDER`."""

from __future__ import annotations

import sys

import mlflow.xgboost
import xgboost

if __name__ == "__main__":
    mlflow.xgboost.save_model(xgboost.Booster(model_file=sys.argv[1]), sys.argv[2])
