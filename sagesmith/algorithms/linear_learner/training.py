"""A training job of Linear Learner: channels in, the best model out. `train` reads in the order of the job's log.

look at the rows -> scaler -> models side by side, epoch after epoch, each judged on validation -> Newton's step -> the
best, calibrated
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sagesmith.algorithms.first_party import report_scores
from sagesmith.algorithms.linear_learner import grid, losses
from sagesmith.algorithms.linear_learner.blocks import Blocks
from sagesmith.algorithms.linear_learner.epochs import Epochs
from sagesmith.algorithms.linear_learner.hosts import Gang
from sagesmith.algorithms.linear_learner.judging import Judge
from sagesmith.algorithms.linear_learner.losses import MULTICLASS, REGRESSOR
from sagesmith.algorithms.linear_learner.network import LAZY
from sagesmith.algorithms.linear_learner.newton import Newton
from sagesmith.algorithms.linear_learner.optimizers import LEARNING_RATE
from sagesmith.algorithms.linear_learner.plan import Plan
from sagesmith.algorithms.linear_learner.rows import Rows, any_number, class_labels
from sagesmith.algorithms.linear_learner.scaler import Scaler, log_scaler
from sagesmith.algorithms.run import Run
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.linear_learner import LinearLearner
    from sagesmith.formats.channel import Channel

SAMPLED = 100_000  # rows that stand in for a validation channel where the training rows are not all at hand


def train(algorithm: LinearLearner, channels: Mapping[str, Channel], run: Run) -> None:
    """Trains and leaves weights and threshold in `algorithm`.

    Raises:
        DataError: rows that cannot be learnt from.
    """
    begun = time.monotonic()
    with np.errstate(all="ignore"):  # a model whose learning rate is too high overflows and is not chosen
        rows, held, plan, gang = _looked_at(algorithm, channels, run)
        blocks = _started(plan, rows, gang)
        judge = Judge(plan, held, gang)
        run.metrics("initialize", {"initialize.time": 1000 * (time.monotonic() - begun)})
        best, chosen = Epochs(plan, blocks, judge, Newton(plan, rows, judge, gang, "validation" in channels)).run()
        threshold = judge.threshold(best)
        algorithm.keep(*plan.scaler.folded(best), threshold)
        _report(algorithm, channels, rows, best, threshold, chosen, judge, gang)


def _looked_at(algorithm: LinearLearner, channels: Mapping[str, Channel], run: Run) -> tuple[Rows, Rows, Plan, Gang]:
    settings, loss, gang = algorithm.settings, losses.chosen(algorithm.settings), Gang(run)
    classes = 0 if loss.predictor == REGRESSOR else algorithm.classes_known()
    labels = class_labels(classes) if classes else any_number
    width = None if settings["feature_dim"] == "auto" else int(settings["feature_dim"])
    scaled = int(settings["num_point_for_scaler"])
    rows = Rows(channels["train"], width, labels, sampled=max(scaled, SAMPLED), classes=classes)
    count = gang.total(rows.count)
    if count == 0:
        raise DataError("the train channel holds no rows")
    width = gang.agreed_width(rows.width)
    rows.classes = gang.added(rows.classes)
    moments = gang.moments(rows.spread(-(-scaled // len(run.hosts))))
    sparse = gang.any(rows.is_sparse)
    lazy = sparse and width > LAZY and settings["unbias_data"] is not True
    centred = not lazy and (settings["use_bias"] if settings["unbias_data"] == "auto" else settings["unbias_data"])
    scaler = Scaler.fitted(moments, settings, centred)
    plan = Plan(settings, run, loss, max(1, classes) if loss.predictor == MULTICLASS else 1, width, scaler, lazy)
    plan.weigh(rows.classes)
    plan.steps = gang.largest(-(-rows.count // settings["mini_batch_size"]))
    _announce(plan, count, sparse)
    if "validation" in channels:
        held = Rows(channels["validation"], width, labels)
        if not gang.total(held.count):
            raise DataError("the validation channel holds no rows")
    else:
        run.log("Validation data is not provided: the training data, or a sample of them, stand in")
        held = rows if gang.alone and rows.is_kept else gang.sample(rows, SAMPLED, labels)
    return rows, held, plan, gang


def _announce(plan: Plan, count: int, sparse: bool) -> None:
    run = plan.run
    run.log("Training on %d rows of %d columns, %s", count, plan.width, "sparse" if sparse else "dense")
    log_scaler(plan.scaler, run)
    if plan.settings["tuning_objective_metric"] is not None:
        run.log("A tuning job trains one model per job, whatever num_models says")
    for line in plan.without_effect():
        run.log(line)
    if run.checkpoints is None:
        run.log("Checkpoint loading and saving are disabled.")


def _started(plan: Plan, rows: Rows, gang: Gang) -> Blocks:
    settings = plan.settings
    name = "adam" if settings["optimizer"] == "auto" else settings["optimizer"]
    number = grid.count(settings, (plan.width + 1) * plan.outputs)
    plan.models = grid.models(settings, number, LEARNING_RATE[name], plan.steps)
    if number < grid.MODELS and settings["num_models"] == "auto":
        plan.run.log("%d models instead of %d: a model has many weights", number, grid.MODELS)
    return Blocks(plan, rows, gang)


def _report(
    algorithm: LinearLearner,
    channels: Mapping[str, Channel],
    rows: Rows,
    best: np.ndarray,
    threshold: float,
    chosen: int,
    judge: Judge,
    gang: Gang,
) -> None:
    """The scores of the best model on every channel."""
    plan = judge.plan
    run, name = plan.run, judge.plan.settings["optimizer"]
    report_scores(run, "train", judge.scores(rows, best, threshold, sharded=True, full=False))
    if "validation" in channels:
        held = judge.held
        report_scores(run, "validation", judge.scores(held, best, threshold, sharded=gang.sharded(held), full=True))
    described = plan.models[chosen].described("adam" if name == "auto" else name)
    run.log("Best model found for hyperparameters: %s", json.dumps(described))
    if "test" not in channels:
        run.log("Test data is not provided.")
        return
    labels = class_labels(algorithm.classes_known()) if plan.loss.predictor != REGRESSOR else any_number
    test = Rows(channels["test"], plan.width, labels)
    if gang.total(test.count):
        report_scores(run, "test", judge.scores(test, best, threshold, sharded=gang.sharded(test), full=True))
    else:
        run.log("The test channel holds no rows")
