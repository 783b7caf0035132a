"""A training job of XGBoost: channels in, boosters out. The order of `train` is the order of the job's log.

The xgboost library is first needed when the rows have been read: a job's process loads it meanwhile (loading.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import artifact, matrix, messages, metrics, rules
from sagesmith.algorithms.xgboost.plan import Plan
from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    import xgboost

    from sagesmith.algorithms.xgboost import XGBoost
    from sagesmith.formats.channel import Channel


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
    rows = _read(channels, plan)
    with messages.told(run, settings["verbosity"]):
        _train(algorithm, rows, plan)


def _train(algorithm: XGBoost, rows: list[Batch | None], plan: Plan) -> None:
    from sagesmith.algorithms.xgboost import boosting, hosts

    run = plan.run
    validation, train = rows.pop(), rows.pop()
    gang = hosts.Gang(run, train, validation)
    del train, validation  # the gang alone holds the rows, so that it can let go of them
    if not gang.stays:
        run.log("Host %s has no data and leaves the training", run.host)
        return
    algorithm.n_features_in_ = gang.width
    with gang:
        boosters = boosting.boosters(plan, gang, _initial_model(run, plan.settings))
    algorithm.keep(boosters)


def _plan(algorithm: XGBoost, run: Run) -> Plan:
    settings = algorithm.settings
    defaults = {name: parameter.default for name, parameter in algorithm.hyperparameters.items()}
    parameters = rules.translate(settings, defaults, run.threads)
    native, custom = metrics.split(settings["eval_metric"] or (), rules.tuning_objective(settings))
    if native:
        parameters["eval_metric"] = native
    return Plan(parameters, settings, rules.objective(settings), native, custom, run)


def _read(channels: Mapping[str, Channel], plan: Plan) -> list[Batch | None]:
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
    return [trained, validated]


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
