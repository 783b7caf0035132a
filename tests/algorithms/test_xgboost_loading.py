"""How a job's process loads xgboost: without scikit-learn, which nothing needs there; elsewhere nothing changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms import XGBoost

ROOT = Path(__file__).parents[2]

EVERY_FEATURE = """
import json, sys
import numpy as np
from pathlib import Path
from scipy import sparse
from sagesmith.algorithms import XGBoost
from sagesmith.algorithms.base import Request
from sagesmith.algorithms.run import Run
from sagesmith.formats.channel import Channel

XGBoost.warm_up()
folder = Path(sys.argv[1])
random = np.random.default_rng(0)
X = random.normal(size=(200, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.float32)
run = Run(1)
run.output, run.checkpoints, run.model = folder / "output", folder / "checkpoints", folder / "early"

def trained(features=X, label=y, held=True, **settings):
    model = XGBoost(**{"objective": "binary:logistic", "num_round": 3, **settings})
    model.validate()
    channels = {"train": Channel.of("train", features, label)}
    if held:
        channels["validation"] = Channel.of("validation", X, y)
    model.train(channels, run)
    run.checkpoints = None
    return model

first = trained(early_stopping_rounds=2, eval_metric="auc,f1", save_model_on_termination=True)
for settings in (
    {"booster": "dart"}, {"booster": "gblinear"}, {"tree_method": "exact"}, {"tree_method": "approx"},
    {"kfold": 3, "num_cv_round": 2}, {"objective": "multi:softprob", "num_class": 3, "eval_metric": "accuracy"},
    {"objective": "rank:ndcg"}, {"objective": "survival:aft"}, {"objective": "reg:squarederror", "eval_metric": "r2"},
):
    trained(**settings)
trained(sparse.csr_matrix(X))
(folder / "model").mkdir()
first.save(folder / "model")
run.initial_model = folder / "model"
again = trained()
loaded = XGBoost.load(folder / "model")
body = ",".join(map(str, X[0])).encode()
kinds = ("text/csv", "application/json")
answers = [loaded.respond(Request(body, "text/csv", accept)).body.decode() for accept in kinds]
rounds = again.booster_model.num_boosted_rounds() - first.booster_model.num_boosted_rounds()
loaded_scikit = "sklearn" in sys.modules
import sklearn.base, xgboost
print(json.dumps([loaded_scikit, "sklearn" in sys.modules, rounds, answers]))
"""


def python(script: str, *arguments: str) -> list[object]:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_all_that_is_used_of_xgboost_works_without_scikit_learn(tmp_path: Path) -> None:
    loaded, restored, rounds, answers = python(EVERY_FEATURE, str(tmp_path))
    assert (loaded, restored, rounds) == (False, True, 3)
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 4)).astype(np.float32)
    expected = XGBoost.load(tmp_path / "model").ensemble_.predict(X[:1])[0]
    assert float(answers[0]) == pytest.approx(expected, rel=1e-6)  # type: ignore[index]
    assert (tmp_path / "output" / "predictions.csv").exists()


def test_a_program_of_the_users_own_keeps_xgboosts_scikit_learn_classes() -> None:
    script = """
import json, sys
from sagesmith.algorithms import XGBoost
XGBoost(num_round=1).fit([[0.0], [1.0]], [0.0, 1.0])
import xgboost
print(json.dumps([hasattr(xgboost.XGBClassifier, "get_params")]))
"""
    assert python(script) == [True]


def test_scikit_learn_that_is_there_already_stays() -> None:
    script = """
import json, sys
import sklearn
from sagesmith.algorithms.xgboost.loading import load
load()
print(json.dumps(["xgboost" in sys.modules, sys.modules["sklearn"] is sklearn]))
"""
    assert python(script) == [False, True]
