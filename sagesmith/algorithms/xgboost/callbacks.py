"""What happens after every round: the log line, checkpoints, the model on disk, early stopping, a stop from outside."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from xgboost import collective
from xgboost.callback import TrainingCallback

from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import artifact, metrics

CHECKPOINT = re.compile(r"^xgboost-checkpoint\.([0-9]+)$")
KEEP = 5
History = Mapping[str, Mapping[str, list[float]]]


class RoundLine(TrainingCallback):  # type: ignore[misc]
    """`[0]<TAB>train-rmse:8.12345<TAB>validation-rmse:8.23456`, the line that metrics are scraped from."""

    def __init__(self, run: Run, first: int, total: int) -> None:
        super().__init__()
        self.run, self.first, self.total = run, first, total

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: History) -> bool:
        fields = [
            f"\t{data}-{name}:{values[-1]:.5f}" for data, log in evals_log.items() for name, values in log.items()
        ]
        number = epoch + self.first
        if self.run.is_master:
            self.run.metric_line(f"[{number}]{''.join(fields)}")
        self.run.progress(number + 1, self.total)
        return False


class EarlyStopping(TrainingCallback):  # type: ignore[misc]
    """Ends training after `rounds` rounds without progress on validation and keeps the rounds up to the best.

    The best score and round are kept in the model's attributes, so that a resumed run goes on counting.
    """

    def __init__(self, rounds: int, metric: str | None, run: Run) -> None:
        super().__init__()
        self.rounds, self.metric, self.run = rounds, metric, run

    def before_training(self, model: xgboost.Booster) -> xgboost.Booster:
        self.start = model.num_boosted_rounds()
        return model

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: History) -> bool:
        scores = evals_log["validation"]
        if self.metric is None:
            self.metric = list(scores)[-1]
            self.run.log(
                "No metric was named for early stopping; using the objective's own, validation:%s", self.metric
            )
        score, number = scores[self.metric][-1], self.start + epoch
        best = model.attr("best_score")
        better = best is None or (score > float(best) if metrics.is_maximized(self.metric) else score < float(best))
        if better:
            model.set_attr(best_score=repr(score), best_iteration=str(number))
        return bool(number - int(model.attr("best_iteration") or 0) >= self.rounds)

    def after_training(self, model: xgboost.Booster) -> xgboost.Booster:
        best = model.attr("best_iteration")
        if best is None or int(best) + 1 >= model.num_boosted_rounds() or _is_linear(model):
            return model
        self.run.log("Stopping. Best iteration: [%s] validation-%s:%s", best, self.metric, model.attr("best_score"))
        kept = model[: int(best) + 1]
        kept.set_attr(best_score=model.attr("best_score"), best_iteration=best)
        return kept


class Checkpoints(TrainingCallback):  # type: ignore[misc]
    """Writes `xgboost-checkpoint.<round>` after every round and keeps the newest five.

    SageMaker's uploader marks a file being uploaded by `<name>.sagemaker-uploading` and one done by
    `<name>.sagemaker-uploaded`; a file is not removed while it is being uploaded. The temporary name ends in
    `.sagemaker-ignore`, which the uploader leaves alone.
    """

    def __init__(self, folder: Path, first: int) -> None:
        super().__init__()
        self.folder, self.first = folder, first
        folder.mkdir(parents=True, exist_ok=True)

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: History) -> bool:
        path = self.folder / f"xgboost-checkpoint.{epoch + self.first}"
        partial = path.with_name(f"{path.name}.sagemaker-ignore")
        with partial.open("wb") as file:
            file.write(model.save_raw("ubj"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for number in sorted(found(self.folder))[:-KEEP]:
            self._remove(self.folder / f"xgboost-checkpoint.{number}")
        return False

    def _remove(self, path: Path) -> None:
        if path.with_name(f"{path.name}.sagemaker-uploading").exists():
            return
        path.with_name(f"{path.name}.sagemaker-uploaded").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def found(folder: Path) -> list[int]:
    """The rounds of the checkpoints in a folder."""
    if not folder.is_dir():
        return []
    return [int(match[1]) for path in folder.iterdir() if (match := CHECKPOINT.match(path.name))]


def newest(folder: Path | None, run: Run) -> tuple[xgboost.Booster | None, int]:
    """The newest readable checkpoint and the number of rounds that it has behind it, or (None, 0)."""
    if folder is None:
        return None, 0
    for number in sorted(found(folder), reverse=True):
        try:
            return artifact.read(folder / f"xgboost-checkpoint.{number}"), number + 1
        except ValueError as error:
            run.log("Checkpoint left aside: %s", error)
    return None, 0


class ModelOnDisk(TrainingCallback):  # type: ignore[misc]
    """Rewrites the model every round (save_model_on_termination), so that a stopped job leaves a usable one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: History) -> bool:
        artifact.write(model, self.path)
        return False


class StopFromOutside(TrainingCallback):  # type: ignore[misc]
    """Ends training after the round in which the job was asked to stop, on all hosts in the same round."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: History) -> bool:
        stop = self.run.stopping
        if collective.is_distributed():
            stop = bool(collective.allreduce(np.asarray([int(stop)]), collective.Op.MAX)[0])
        if stop:
            self.run.log("Training ends after round %d: the job was asked to stop", epoch)
        return stop


def _is_linear(model: Any) -> bool:
    return '"name":"gblinear"' in model.save_config().replace(" ", "")
