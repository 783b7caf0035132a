"""From rows to boosters: xgboost.train with our callbacks, one booster or one per fold."""

from __future__ import annotations

import re

import xgboost
from xgboost.callback import TrainingCallback

from sagesmith.algorithms.xgboost import artifact, callbacks, folds, hosts, matrix, metrics
from sagesmith.algorithms.xgboost.plan import Plan
from sagesmith.formats.errors import DataError

# What xgboost says when the data or the settings are at fault, not the program.
_USERS_FAULT = re.compile(
    r"label|base_score|feature|Feature|only contains pos|only positive|only negative|Invalid (Input|Parameter)|"
    r"[Pp]arameter|num_class|group|weight|updater|[Cc]onstraint|process_type|prediction size|survival|NDCG|relevance"
)


def boosters(plan: Plan, gang: hosts.Gang, initial: xgboost.Booster | None) -> list[xgboost.Booster]:
    """One booster over the rows of the gang, which are let go of once xgboost has them; or one per fold."""
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
