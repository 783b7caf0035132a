"""Factorization Machines: a linear model with all interactions of two features, whose weights share few numbers.

Papers: Rendle, Factorization Machines, ICDM 2010 (doi 10.1109/ICDM.2010.127); Kingma and Ba, Adam, ICLR 2015, with the
lazy updates of MXNet: a feature's parameters and moments move, and decay, only in mini-batches in which it occurs.

    ŷ = w0 + Σ w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j;  squared error, or log loss on the sigmoid of ŷ

SageMaker is followed to the letter in hyperparameters, hidden ones included, content types (no CSV), log lines and
answers. Where its documents are silent (docs/algorithms/factorization-machines.md says more): the gradient is divided
by the rows of the mini-batch unless rescale_grad is given; zeros of dense rows count as absent; the mini-batches of
several hosts make one step together. Left out: optimizers other than Adam, GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sagesmith.algorithms.base import ChannelSpec, Role
from sagesmith.algorithms.factorization_machines import scores
from sagesmith.algorithms.first_party import JOB_METRICS, RECORDIO, FirstParty, check_finite, check_width
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.factorization_machines.descent_compiled import Model
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

METHODS = ("uniform", "normal", "constant")
WIDE = Tunable(1e-8, 512, "Logarithmic")
LINEAR_WIDE = Tunable(1e-8, 512)


class FactorizationMachines(FirstParty):
    """Factorization machines of second order for sparse rows: regression and binary classification."""

    name = "factorization-machines"
    images = ("factorization-machines",)
    dimension = "factorization-machines"
    role: ClassVar[Role] = "regressor"  # or classifier: predictor_type decides, see `task`
    channels = (
        ChannelSpec("train", True, (RECORDIO,), RECORDIO),
        ChannelSpec("test", False, (RECORDIO,), RECORDIO),
    )
    metrics = (*JOB_METRICS, *scores.definitions())
    accepts = ("application/json", "application/jsonlines", RECORDIO)
    distributed = True
    example = {"num_factors": 4, "predictor_type": "regressor", "epochs": 3, "mini_batch_size": 20}
    exceptions = {
        "check_sample_weight_equivalence_on_dense_data": "a row twice and a row of weight two fall into other batches",
        "check_sample_weight_equivalence_on_sparse_data": "a row twice and a row of weight two fall into other batches",
    }

    feature_dim: int = hp("features of a row", default=None, inferred=True, ge=1)
    num_factors: int = hp("numbers that describe a feature: the rank of the interactions", ge=1)
    predictor_type: str = hp("the task", choices=("binary_classifier", "regressor"))
    epochs: int = hp("passes over the data", default=1, ge=1, tunable=Tunable(1, 1000))
    mini_batch_size: int = hp("rows of a step", default=1000, ge=1, tunable=Tunable(100, 10000))
    bias_lr: float = hp("learning rate of the bias", default=0.1, ge=0, tunable=WIDE)
    linear_lr: float = hp("learning rate of the linear terms", default=0.001, ge=0, tunable=WIDE)
    factors_lr: float = hp("learning rate of the factors", default=0.0001, ge=0, tunable=WIDE)
    bias_wd: float = hp("weight decay of the bias", default=0.01, ge=0, tunable=WIDE)
    linear_wd: float = hp("weight decay of the linear terms", default=0.001, ge=0, tunable=WIDE)
    factors_wd: float = hp("weight decay of the factors", default=0.00001, ge=0, tunable=WIDE)
    bias_init_method: str = hp("how the bias begins", default="normal", choices=METHODS)
    bias_init_sigma: float = hp("its standard deviation, for normal", default=0.01, ge=0, tunable=WIDE)
    bias_init_scale: float = hp(
        "drawn from [-scale, scale], for uniform; 0.07 if not given", default=None, ge=0, tunable=WIDE
    )
    bias_init_value: float = hp("its value, for constant; 0 if not given", default=None, tunable=LINEAR_WIDE)
    linear_init_method: str = hp("how the linear terms begin", default="normal", choices=METHODS)
    linear_init_sigma: float = hp("their standard deviation, for normal", default=0.01, ge=0, tunable=WIDE)
    linear_init_scale: float = hp(
        "drawn from [-scale, scale], for uniform; 0.07 if not given", default=None, ge=0, tunable=WIDE
    )
    linear_init_value: float = hp("their value, for constant; 0 if not given", default=None, tunable=LINEAR_WIDE)
    factors_init_method: str = hp("how the factors begin", default="normal", choices=METHODS)
    factors_init_sigma: float = hp("their standard deviation, for normal", default=0.001, ge=0, tunable=WIDE)
    factors_init_scale: float = hp(
        "drawn from [-scale, scale], for uniform; 0.07 if not given", default=None, ge=0, tunable=WIDE
    )
    factors_init_value: float = hp("their value, for constant; 0 if not given", default=None, tunable=LINEAR_WIDE)
    clip_gradient: float = hp("gradients, decay included, are brought into [-c, c]; 0 or less: not", default=None)
    rescale_grad: float = hp("factor on the gradient, a sum over rows; 1 / rows if not given", default=None)
    eps: float = hp("keeps Adam from dividing by zero; 1e-8 if not given", default=None, gt=0)
    use_bias: bool = hp("learn w0 (hidden in SageMaker)", default=True)
    use_linear: bool = hp("learn w (hidden in SageMaker)", default=True)
    optimizer: str = hp(
        "hidden in SageMaker, as all from here on", name="_optimizer", default="adam", choices=("adam",)
    )
    learning_rate: float = hp("factor on all learning rates", name="_learning_rate", default=1.0, ge=0)
    wd: float = hp("factor on all weight decays", name="_wd", default=1.0, ge=0)
    use_full_symbolic: bool = hp("taken; names a way of MXNet's, no effect", name="_use_full_symbolic", default=True)
    batch_metrics_publish_interval: int = hp("mini-batches between two lines of metrics", default=500, ge=1)

    @classmethod
    def warm_up(cls) -> None:
        import threading

        threading.Thread(target=_load, name="loading numba").start()

    @property
    def task(self) -> Role:
        return "classifier" if self.predictor_type == "binary_classifier" else "regressor"

    @property
    def takes_many_classes(self) -> bool:
        return False

    @property
    def class_count(self) -> int | None:
        return 2

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.factorization_machines.training import train

        self._keep(train(self.settings, channels, run))

    def _keep(self, model: Model) -> None:
        """What was learnt: `w0_` float, `w_` (d,), `v_` (d, k); `_model` is the same as compiled code reads it."""
        self._model = model
        self.w0_ = float(model.w0[0])
        self.w_ = model.w
        self.v_ = model.v[:, : self.settings["num_factors"]]
        self.n_features_in_ = len(model.w)
        if self.task == "classifier" and "classes_" not in vars(self):
            self.classes_ = np.arange(2)

    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`score` (n,): the prediction, or the probability of class 1, with `predicted_label` (n,), 1 from 0.5 on."""
        from sagesmith.algorithms.factorization_machines.descent import predictions
        from sagesmith.algorithms.factorization_machines.reading import rows_of

        check_width(batch, len(self.w_), "the request has rows")
        check_finite(batch, "the request")
        score = predictions(rows_of(batch), self._model, Run().threads)
        if self.task != "classifier":
            return {"score": score}
        with np.errstate(over="ignore"):
            probability = 1 / (1 + np.exp(-score))
        return {"score": probability, "predicted_label": (probability >= 0.5).astype(np.int64)}

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """Class labels of a classifier, values of a regressor."""
        if self.task != "classifier":
            return np.asarray(fields["score"])
        return np.asarray(self.classes_[fields["predicted_label"]])

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        return np.column_stack([1 - fields["score"], fields["score"]])

    def arrays(self) -> Mapping[str, np.ndarray]:
        """w0 (1,), w (d,), v (d, k): the names that users of SageMaker's artifact know."""
        return {"w0": self._model.w0, "w": self.w_, "v": self.v_}

    def facts(self) -> Mapping[str, Any]:
        labels, names = getattr(self, "classes_", None), getattr(self, "feature_names_in_", None)
        found = {} if labels is None else {"classes": labels.tolist()}
        return found if names is None else {**found, "feature_names": names.tolist()}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.factorization_machines.descent import widened

        w0, w, v = (np.ascontiguousarray(arrays[name], np.float32) for name in ("w0", "w", "v"))
        expected = (len(w), self.settings["num_factors"])
        if w0.shape != (1,) or w.ndim != 1 or v.shape != expected:
            raise ValueError(f"w0 {w0.shape}, w {w.shape} and v {v.shape} are not of one model; v should be {expected}")
        if "classes" in facts:
            self.classes_ = np.asarray(facts["classes"])
        if "feature_names" in facts:
            self.feature_names_in_ = np.asarray(facts["feature_names"], dtype=object)
        self._keep(widened(w0, w, v))


def _load() -> None:
    import sagesmith.algorithms.factorization_machines.descent_compiled  # noqa: F401
