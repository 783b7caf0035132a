"""Linear Learner: linear and logistic regression, margins, quantiles and softmax, by synchronous mini-batch SGD.

SageMaker's algorithm: num_models models that differ in learning rate, schedule, L1 and weight decay train on the same
batches; the best on validation is kept, and for a binary classifier its threshold is calibrated to the selection
criterion. Here the models lie side by side in one matrix, so that a batch costs them one matrix product each way
(network.py). Papers: Liberty et al., Elastic Machine Learning Algorithms in Amazon SageMaker, SIGMOD 2020
(doi 10.1145/3318464.3386126); those of the optimizers are named in optimizers.py.

Followed to the letter: hyperparameters, channels, log lines and metrics, answers; an epoch's objective is model 0's.
Ours, where SageMaker is silent: the grid (grid.py), L1 as a proximal step, lazy updates of wide sparse data, Newton's
step at the end (newton.py), the artifact (arrays `weight`, `bias`, `threshold` for raw input in place of MXNet's
files), the form of checkpoints.
Left out: GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from sagesmith.algorithms.base import ChannelSpec, HyperparameterError, Role
from sagesmith.algorithms.first_party import ROWS, FirstParty, check_finite, check_width
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.linear_learner import calibration, losses, metrics, optimizers
from sagesmith.algorithms.linear_learner.losses import BINARY, MULTICLASS, REGRESSOR
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

Auto = Literal["auto"]
AT_ONCE = 65_536  # rows that are turned into float64 at a time


def _log(low: float, high: float) -> Tunable:
    return Tunable(low, high, "Logarithmic")


class LinearLearner(FirstParty):
    """Linear models for regression, two and more classes; many train at once and the best is kept."""

    name = "linear-learner"
    images = ("linear-learner",)
    role: ClassVar[Role] = "regressor"  # see `task`
    dimension = "Linear Learner"
    channels = (
        ChannelSpec("train", True, ROWS, ROWS[0]),
        ChannelSpec("validation", False, ROWS, ROWS[0]),
        ChannelSpec("test", False, ROWS, ROWS[0]),
    )
    metrics = metrics.definitions()
    distributed = True
    whole_percents = True
    exceptions = {
        "check_sample_weight_equivalence_on_dense_data": "repeated rows make other batches than weighted ones",
        "check_sample_weight_equivalence_on_sparse_data": "repeated rows make other batches than weighted ones",
        "check_classifiers_train": "labels follow the calibrated threshold, not the larger probability",
    }
    example = {"predictor_type": BINARY, "epochs": 5, "mini_batch_size": 40}

    predictor_type: str = hp("the task", choices=(BINARY, MULTICLASS, REGRESSOR))
    num_classes: int = hp("classes; required for multiclass_classifier, else ignored", default=1, ge=1, le=1_000_000)
    feature_dim: int | Auto = hp("columns", default="auto", ge=1)
    mini_batch_size: int = hp("rows per batch", default=1000, ge=1, tunable=Tunable(100, 5000))
    epochs: int = hp("most passes over the data", default=15, ge=1)
    num_models: int | Auto = hp("models that train side by side; auto: 32", default="auto", ge=1)
    loss: str = hp("the objective", default="auto", choices=("auto", *losses.LOSSES))
    optimizer: str = hp("the optimizer; auto: adam", default="auto", choices=("auto", *optimizers.NAMES))
    learning_rate: float | Auto = hp(
        "size of a step; auto: by optimizer", default="auto", gt=0, tunable=_log(1e-5, 1.0)
    )
    momentum: float | Auto = hp("sgd: momentum; auto: 0", default="auto", ge=0, lt=1)
    beta_1: float | Auto = hp("adam: decay of the mean of gradients; auto: 0.9", default="auto", ge=0, lt=1)
    beta_2: float | Auto = hp("adam: decay of the mean of their squares; auto: 0.999", default="auto", ge=0, lt=1)
    wd: float | Auto = hp("weight decay (L2)", default="auto", ge=0, tunable=_log(1e-7, 1.0))
    l1: float | Auto = hp("L1 penalty", default="auto", ge=0, tunable=_log(1e-7, 1.0))
    bias_lr_mult: float | Auto = hp("learning rate of the bias, times learning_rate; auto: 10", default="auto", gt=0)
    bias_wd_mult: float | Auto = hp("weight decay of the bias, times wd; auto: 0", default="auto", ge=0)
    use_lr_scheduler: bool = hp("lower the learning rate as training goes on", default=True)
    lr_scheduler_step: int | Auto = hp("batches between two reductions", default="auto", gt=0)
    lr_scheduler_factor: float | Auto = hp("factor of a reduction", default="auto", gt=0, lt=1)
    lr_scheduler_minimum_lr: float | Auto = hp("no reduction below this; auto: 1e-5", default="auto", gt=0)
    init_method: str = hp("distribution of the first weights", default="uniform", choices=("uniform", "normal"))
    init_scale: float = hp("uniform: weights from -init_scale to init_scale", default=0.07, gt=0)
    init_sigma: float = hp("normal: standard deviation", default=0.01, gt=0)
    init_bias: float = hp("first bias", default=0.0)
    use_bias: bool = hp("learn a bias", default=True, tunable=Tunable(values=("True", "False")))
    normalize_data: bool | Auto = hp("scale features to standard deviation 1", default=True)
    normalize_label: bool | Auto = hp("regression: scale the label too; auto: yes", default="auto")
    unbias_data: bool | Auto = hp("shift features to mean 0; auto: with use_bias", default="auto")
    unbias_label: bool | Auto = hp("regression with use_bias: shift the label too; auto: yes", default="auto")
    num_point_for_scaler: int = hp("rows that means and deviations are computed from", default=10_000, gt=0)
    num_calibration_samples: int | Auto = hp(
        "validation rows that the threshold is computed from", default=10_000_000, gt=0
    )
    binary_classifier_model_selection_criteria: str = hp(
        "binary: what the best model and its threshold are chosen by", default="accuracy", choices=calibration.CRITERIA
    )
    target_recall: float = hp("precision_at_target_recall: the recall", default=0.8, gt=0, lt=1)
    target_precision: float = hp("recall_at_target_precision: the precision", default=0.8, gt=0, lt=1)
    f_beta: float = hp("beta of F scores", default=1.0, gt=0)
    positive_example_weight_mult: float | Literal["balanced", "auto"] = hp(
        "binary: weight of positive rows; balanced: as much in all as negative ones; auto: models try several",
        default=1.0, gt=0, tunable=_log(1e-5, 1e5),
    )  # fmt: skip
    balance_multiclass_weights: bool = hp("multiclass: classes weigh alike", default=False)
    accuracy_top_k: int = hp("multiclass: k of the top-k accuracy", default=3, ge=1, le=1_000_000)
    early_stopping_patience: int = hp("epochs without improvement before training ends", default=3, ge=1)
    early_stopping_tolerance: float = hp("a smaller relative improvement counts as none", default=0.001, gt=0)
    margin: float = hp("hinge_loss: the margin", default=1.0, ge=0)
    quantile: float = hp("quantile_loss: the quantile", default=0.5, gt=0, lt=1)
    loss_insensitivity: float = hp("eps_insensitive losses: epsilon", default=0.01, gt=0)
    huber_delta: float = hp("huber_loss: delta", default=1.0, ge=0)
    tuning_objective_metric: str = hp(
        "metric of a tuning job, which trains one model per job", name="_tuning_objective_metric", default=None
    )

    def check(self) -> None:
        predictor, loss = self.settings["predictor_type"], self.settings["loss"]
        if loss != "auto" and losses.LOSSES[loss].predictor != predictor:
            allowed = ", ".join(["auto", *losses.allowed(predictor)])
            raise HyperparameterError(
                f"Hyperparameter loss: {loss} is not in [{allowed}] for predictor_type {predictor}"
            )
        if predictor == MULTICLASS:
            self._check_classes()
        criterion = self.settings["binary_classifier_model_selection_criteria"]
        if criterion == "cross_entropy_loss" and loss == "hinge_loss":
            raise HyperparameterError(
                "Hyperparameter binary_classifier_model_selection_criteria: cross_entropy_loss needs loss logistic; "
                "hinge_loss knows no probabilities"
            )
        if self.settings["tuning_objective_metric"] is not None:
            self._settings["num_models"] = 1

    def _check_classes(self) -> None:
        known = getattr(self, "classes_", None)
        if self.settings["num_classes"] == 1 and known is not None:
            self._settings["num_classes"] = len(known)
        elif self.settings["num_classes"] < 3:
            raise HyperparameterError(
                f"Hyperparameter num_classes: {self.settings['num_classes']} is not in [3, 1000000], "
                "which predictor_type multiclass_classifier requires"
            )

    @property
    def task(self) -> Role:
        return "regressor" if self.predictor_type == REGRESSOR else "classifier"

    @property
    def takes_many_classes(self) -> bool:
        return bool(self.predictor_type == MULTICLASS)

    @property
    def class_count(self) -> int | None:
        if self.predictor_type == BINARY:
            return 2
        return None if self.num_classes in (1, "1", None) else int(self.num_classes)

    def classes_known(self) -> int:
        """Classes of a classifier."""
        return 2 if self.settings["predictor_type"] == BINARY else int(self.settings["num_classes"])

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.linear_learner.training import train

        train(self, channels, run)

    def keep(self, weight: np.ndarray, bias: np.ndarray, margin: float) -> None:
        """Takes what was learnt: weight (d, outputs) and bias (outputs,) for raw input, threshold on the margin."""
        self.weight_, self.bias_, self.margin_ = weight, bias, float(margin)
        if self.task == "classifier" and "classes_" not in vars(self):
            self.classes_ = np.arange(self.classes_known())

    @property
    def threshold(self) -> float:
        """The score above which a row is called positive."""
        if losses.chosen(self.settings).name != "logistic":
            return self.margin_
        return float(_sigmoid(np.array(self.margin_)))

    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`score` (n,), or (n, classes), and for classifiers `predicted_label` (n,)."""
        check_width(batch, len(self.weight_), "the request has rows")
        check_finite(batch, "the request")
        margin = self._margins(batch)
        loss = losses.chosen(self.settings)
        if loss.predictor == REGRESSOR:
            return {"score": margin[:, 0]}
        if loss.predictor == MULTICLASS:
            return {"score": _softmax(margin), "predicted_label": np.argmax(margin, axis=1)}
        score = _sigmoid(margin[:, 0]) if loss.name == "logistic" else margin[:, 0]
        return {"score": score, "predicted_label": (margin[:, 0] > self.margin_).astype(np.int64)}

    def _margins(self, batch: Batch) -> np.ndarray:
        """(n, outputs), in float64: with means large beside deviations, float32 would lose what was learnt."""
        if batch.is_sparse:
            return np.asarray(batch.features @ self.weight_ + self.bias_)
        parts = [
            batch.features[start : start + AT_ONCE].astype(np.float64) @ self.weight_ + self.bias_
            for start in range(0, max(1, len(batch)), AT_ONCE)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """Class labels of a classifier, by the calibrated threshold; values of a regression."""
        if self.task == "regressor":
            return np.asarray(fields["score"])
        return np.asarray(self.classes_[fields["predicted_label"]])

    @property
    def predict_proba(self) -> Callable[..., np.ndarray]:
        """`predict_proba(X)`: the probability of every class, (n, classes); hinge_loss knows none."""
        if self.loss == "hinge_loss":
            raise AttributeError("predict_proba is not available with loss='hinge_loss'")
        return super().predict_proba

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        score = np.asarray(fields["score"])
        return score if score.ndim == 2 else np.column_stack([1 - score, score])

    def arrays(self) -> Mapping[str, np.ndarray]:
        return {
            "weight": self.weight_,
            "bias": self.bias_,
            "threshold": np.array(self.threshold),
            "margin": np.array(self.margin_),
        }

    def facts(self) -> Mapping[str, Any]:
        labels = getattr(self, "classes_", np.arange(0))
        return {} if np.array_equal(labels, np.arange(len(labels))) else {"classes": labels.tolist()}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        weight, bias, margin = (np.asarray(arrays[name], np.float64) for name in ("weight", "bias", "margin"))
        outputs = self.classes_known() if self.settings["predictor_type"] == MULTICLASS else 1
        if weight.ndim != 2 or weight.shape[1] != outputs or bias.shape != (outputs,) or margin.shape != ():
            raise ValueError(f"weight {weight.shape}, bias {bias.shape} are not those of {outputs} outputs")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()) or np.isnan(margin):
            raise ValueError("a number is not finite")
        if "classes" in facts:
            self.classes_ = np.asarray(facts["classes"])
        self.keep(weight, bias, float(margin))
        self.n_features_in_ = len(weight)


def _sigmoid(margin: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(margin))
    return np.asarray(np.where(margin >= 0, 1, small) / (1 + small))


def _softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
