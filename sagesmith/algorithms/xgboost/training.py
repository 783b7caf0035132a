"""A training job of XGBoost: channels in, boosters out. The order of `train` is the order of the job's log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xgboost
from xgboost.callback import TrainingCallback

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import artifact, callbacks, folds, hosts, matrix, metrics, rules
from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.xgboost import XGBoost
    from sagesmith.formats.channel import Channel

# What xgboost says when the data or the settings are at fault, not the program.
_USERS_FAULT = re.compile(
    r"label|base_score|feature|Feature|only contains pos|only positive|only negative|Invalid (Input|Parameter)|"
    r"[Pp]arameter|num_class|group|weight|updater|[Cc]onstraint|process_type|prediction size|survival|NDCG|relevance"
)


@dataclass
class Plan:
    """What one call of xgboost.train needs besides data."""

    parameters: dict[str, Any]
    settings: Mapping[str, Any]
    objective: str
    native: list[str]  # metrics for xgboost; none: the objective's own
    custom: list[str]
    run: Run

    @property
    def stopping_metric(self) -> str | None:
        """The tuning objective if there is one, else the last of eval_metric, else None."""
        named = self.settings["eval_metric"] or [None]
        last = rules.tuning_objective(self.settings) or named[-1]
        return None if last is None else str(last)

    @property
    def classes(self) -> int:
        return int(self.settings["num_class"] or 2) if self.objective.startswith("multi:") else 2


def train(algorithm: XGBoost, channels: Mapping[str, Channel], run: Run) -> None:
    """Trains and leaves the boosters with `algorithm`; hosts without data and those that do not save learn nothing."""
    settings = algorithm.settings
    run.log("Running XGBoost Sagemaker in algorithm mode")
    matrix.check_channels(channels, algorithm.channels)
    gpus = rules.usable_gpus(run)
    rules.check_gpu(settings, gpus)
    if gpus > 1:
        run.log("This host has %d GPUs; each host trains on one of them", gpus)
    for line in rules.announcements(settings, len(run.hosts)):
        run.log(line)
    plan = _plan(algorithm, run)
    gang = hosts.Gang(run, *_read(channels, plan))  # the only one to hold the rows, so that it can let go of them
    if not gang.stays:
        run.log("Host %s has no data and leaves the training", run.host)
        return
    algorithm.n_features_in_ = gang.width
    with gang:
        boosters = _boosters(plan, gang, _initial_model(run, settings))
    algorithm.keep(boosters)


def _plan(algorithm: XGBoost, run: Run) -> Plan:
    settings = algorithm.settings
    defaults = {name: parameter.default for name, parameter in algorithm.hyperparameters.items()}
    parameters = rules.translate(settings, defaults, run.threads)
    native, custom = metrics.split(settings["eval_metric"] or (), rules.tuning_objective(settings))
    if native:
        parameters["eval_metric"] = native
    return Plan(parameters, settings, rules.objective(settings), native, custom, run)


def _read(channels: Mapping[str, Channel], plan: Plan) -> tuple[Batch | None, Batch | None]:
    run, settings = plan.run, plan.settings
    trained = matrix.read(channels["train"], settings, run)
    validated = matrix.read(channels["validation"], settings, run) if "validation" in channels else None
    if trained is None and len(run.hosts) == 1:
        raise DataError("No data in training channel path: the channel train is empty")
    for name, batch in (("train", trained), ("validation", validated)):
        if batch is not None:
            matrix.check_labels(batch.label, plan.objective, settings["num_class"], name)  # type: ignore[arg-type]
    if trained is not None:
        run.log("Train matrix has %d rows and %d columns", len(trained), trained.width)
        if plan.objective.startswith("rank:") and trained.group is None:
            run.log("No query ids (qid) in channel train: all rows are ranked as one query")
    if validated is not None:
        run.log("Validation matrix has %d rows", len(validated))
        for name in matrix.same_files(channels["train"], channels["validation"]):
            run.log("Warning: file %s is in train and in validation with the same size; is it the same data?", name)
    return trained, validated


def _initial_model(run: Run, settings: Mapping[str, Any]) -> xgboost.Booster | None:
    if run.initial_model is None:
        if settings["process_type"] == "update":
            raise HyperparameterError("Hyperparameter process_type: update needs a model to update (channel model)")
        return None
    boosters, _ = artifact.load(run.initial_model)
    if len(boosters) > 1:
        raise DataError(f"{run.initial_model} holds {len(boosters)} models; training goes on from one")
    boosters[0].set_attr(best_iteration=None, best_score=None, sagesmith=None)
    run.log("Training goes on from a model of %d rounds", boosters[0].num_boosted_rounds())
    return boosters[0]


def _boosters(plan: Plan, gang: hosts.Gang, initial: xgboost.Booster | None) -> list[xgboost.Booster]:
    if plan.settings["kfold"] is not None:
        return folds.cross_validate(plan, gang, initial)
    threads = plan.parameters["nthread"]
    data = matrix.matrix(gang.train, plan.objective, threads)
    evals = [(data, "train")]
    if gang.validation is not None:
        evals.append((matrix.matrix(gang.validation, plan.objective, threads), "validation"))
    gang.release()
    return [boost(plan, evals, initial, gang)]


def boost(
    plan: Plan,
    evals: list[tuple[xgboost.DMatrix, str]],
    initial: xgboost.Booster | None,
    gang: hosts.Gang,
    part: str = "",
) -> xgboost.Booster:
    """One booster over `evals[0]`, resumed from the newest checkpoint where there is one.

    Args:
        part: a folder below the checkpoints, for one of several models.

    Raises:
        DataError: xgboost refuses the data or a setting.
        RuntimeError: xgboost fails otherwise.
    """
    run, total = plan.run, int(plan.settings["num_round"])
    folder = run.checkpoints / part if run.checkpoints is not None else None
    resumed, done = gang.newest(folder)
    if done:
        run.log("Resuming from checkpoint %d: %d rounds remain", done - 1, max(0, total - done))
    if resumed is not None and done >= total:
        return resumed
    metric = metrics.custom(plan.custom, plan.objective, plan.classes) if plan.custom else None
    try:
        return xgboost.train(
            plan.parameters,
            evals[0][0],
            total - done,
            evals=evals,
            xgb_model=resumed or initial,
            callbacks=_callbacks(plan, done, len(evals) > 1, part),
            custom_metric=metric,
            verbose_eval=False,
        )
    except (xgboost.core.XGBoostError, ValueError) as error:
        text = artifact.first_line(error)
        if _USERS_FAULT.search(str(error).split("Stack trace")[0]):
            raise DataError(text) from error
        raise RuntimeError(f"XGB train call failed with exception:\n {text}") from error


def _callbacks(plan: Plan, done: int, validated: bool, part: str) -> list[TrainingCallback]:
    """Early stopping comes last: xgboost asks no callback after one that ends the training."""
    run, settings = plan.run, plan.settings
    chosen: list[TrainingCallback] = [callbacks.RoundLine(run, done, settings["num_round"])]
    if run.checkpoints is not None and run.is_master:
        chosen.append(callbacks.Checkpoints(run.checkpoints / part, done))
    if settings["save_model_on_termination"] and run.model is not None and run.is_master:
        name = f"{artifact.MODEL}-{part.removeprefix('model-')}" if part else artifact.MODEL
        chosen.append(callbacks.ModelOnDisk(run.model / name))
    chosen.append(callbacks.StopFromOutside(run))
    if settings["early_stopping_rounds"] is not None:
        if validated:
            chosen.append(callbacks.EarlyStopping(settings["early_stopping_rounds"], plan.stopping_metric, run))
        else:
            run.log("early_stopping_rounds has no effect without a validation channel")
    return chosen
