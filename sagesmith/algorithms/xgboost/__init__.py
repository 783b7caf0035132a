"""XGBoost: gradient-boosted trees (or a linear booster) for regression, classification, ranking and survival.

Papers: Chen and Guestrin, XGBoost: A Scalable Tree Boosting System, KDD 2016 (doi 10.1145/2939672.2939785).
The engine is the xgboost library itself: with the same seed, data and settings the model is `xgboost.train`'s.
Hyperparameters, error texts, log lines, files and answers follow SageMaker's container to the letter.

Where we differ on purpose (each is explained in docs/algorithms/xgboost.md):
- container metrics are computed with the threshold 0.5 on probabilities, not 0;
- early stopping without a named metric uses the objective's own metric, and says so, instead of being off;
- k-fold reports the fold's own metrics; a checkpoint is written every round and found again on resume;
- interaction_constraints may name feature 0; several content-type parameters are understood;
- pickled models are refused; hyperparameters that xgboost dropped are mapped or announced in the log.
Left out: external memory; censored intervals for survival:aft (one label column: all events are observed).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sagesmith.algorithms.base import FILES, Algorithm, ChannelSpec, Request, Response, Role
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import metrics as metric_names
from sagesmith.algorithms.xgboost import rules
from sagesmith.algorithms.xgboost.matrix import CONTENT_TYPES

if TYPE_CHECKING:
    import xgboost

    from sagesmith.algorithms.xgboost.prediction import Ensemble
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

OBJECTIVES = (
    "binary:logistic", "binary:logitraw", "binary:hinge", "count:poisson", "multi:softmax", "multi:softprob",
    "rank:pairwise", "rank:ndcg", "rank:map", "reg:linear", "reg:squarederror", "reg:logistic", "reg:gamma",
    "reg:pseudohubererror", "reg:squaredlogerror", "reg:absoluteerror", "reg:tweedie", "survival:aft", "survival:cox",
)  # fmt: skip


def _linear(low: float, high: float) -> Tunable:
    return Tunable(low, high, "Linear")


def _updaters(value: list[str]) -> str | None:
    return None if value and set(value) <= set(rules.UPDATERS) else f"in [{', '.join(rules.UPDATERS)}]"


def _signs(value: list[int]) -> str | None:
    return None if set(value) <= {-1, 0, 1} else "a list of -1, 0 and 1"


def _indices(value: list[list[int]]) -> str | None:
    return None if all(index >= 0 for group in value for index in group) else "a list of lists of column indices from 0"


class XGBoost(Algorithm):
    """Gradient-boosted trees for regression, classification, ranking and survival."""

    name = "xgboost"
    images = ("sagemaker-xgboost", "xgboost")
    framework = True
    role: ClassVar[Role] = "regressor"  # of the default objective; see `task`
    takes_missing = True
    channels = (
        ChannelSpec("train", True, CONTENT_TYPES, "text/libsvm"),
        ChannelSpec("validation", False, CONTENT_TYPES, "text/libsvm"),
        ChannelSpec("code", False, ("text/python",), modes=FILES, distributions=("FullyReplicated",)),
        ChannelSpec("model", False, (), modes=FILES, distributions=("FullyReplicated",)),
    )
    metrics = metric_names.definitions()
    accepts = ("text/csv", "text/libsvm", "text/x-libsvm", "application/x-recordio-protobuf")
    returns = ("text/csv", "application/json", "application/jsonlines", "application/x-recordio-protobuf")
    distributed = True
    incremental = True
    example = {"num_round": 5, "objective": "reg:squarederror", "max_depth": 3}
    exceptions = {
        "check_sample_weight_equivalence_on_dense_data": "multi:softprob sums float32 gradients: 7 equal digits",
        "check_sample_weight_equivalence_on_sparse_data": "multi:softprob sums float32 gradients: 7 equal digits",
    }

    num_round: int = hp("rounds of boosting", ge=1, tunable=_linear(1, 4000))
    num_class: int = hp("classes; required by multi:softmax and multi:softprob", default=None, ge=2)
    csv_weights: int = hp("1: the column after the label of CSV is the row's weight", default=0, choices=(0, 1))
    early_stopping_rounds: int = hp("stop after so many rounds without progress on validation", default=None, ge=1)
    booster: str = hp("booster", default="gbtree", choices=("gbtree", "gblinear", "dart"))
    verbosity: int = hp("0 silent, 1 warnings, 2 info, 3 debug", default=1, ge=0, le=3)
    nthread: int = hp("threads; all processors of the host by default", default=None, ge=1)
    eta: float = hp("shrinkage", default=0.3, ge=0, le=1, aliases=("learning_rate",), tunable=_linear(0.1, 0.5))
    gamma: float = hp("minimum gain of a split", default=0.0, ge=0, aliases=("min_split_loss",), tunable=_linear(0, 5))
    max_depth: int = hp("depth of a tree; 0: no limit", default=6, ge=0, tunable=_linear(0, 10))
    min_child_weight: float = hp("minimum sum of hessians in a child", default=1.0, ge=0, tunable=_linear(0, 120))
    max_delta_step: float = hp("largest step of a leaf; 0: no limit", default=0.0, ge=0, tunable=_linear(0, 10))
    subsample: float = hp("share of rows for a tree", default=1.0, gt=0, le=1, tunable=_linear(0.5, 1))
    colsample_bytree: float = hp("share of columns for a tree", default=1.0, gt=0, le=1, tunable=_linear(0.5, 1))
    colsample_bylevel: float = hp("share of columns for a level", default=1.0, gt=0, le=1, tunable=_linear(0.1, 1))
    colsample_bynode: float = hp("share of columns for a split", default=1.0, gt=0, le=1, tunable=_linear(0.1, 1))
    reg_lambda: float = hp(
        "L2 penalty", name="lambda", default=1.0, ge=0, aliases=("reg_lambda",), tunable=_linear(0, 1000)
    )
    reg_alpha: float = hp(
        "L1 penalty", name="alpha", default=0.0, ge=0, aliases=("reg_alpha",), tunable=_linear(0, 1000)
    )
    tree_method: str = hp(
        "how trees are built", default="auto", choices=("auto", "exact", "approx", "hist", "gpu_hist")
    )
    sketch_eps: float = hp("accuracy of approx; replaced by max_bin", default=None, gt=0, lt=1)
    scale_pos_weight: float = hp("weight of positive rows", default=1.0, gt=0)
    updater: list[str] = hp("tree updaters, comma-separated", default=None, check=_updaters)
    dsplit: str = hp("how hosts split the data; only by row", default=None, choices=("row", "col"))
    refresh_leaf: int = hp("1: refresh updates leaves too, 0: only node statistics", default=1, choices=(0, 1))
    process_type: str = hp("boost anew or update a model's trees", default="default", choices=("default", "update"))
    grow_policy: str = hp("order in which nodes are split", default="depthwise", choices=("depthwise", "lossguide"))
    max_leaves: int = hp("leaves of a tree; 0: no limit", default=0, ge=0)
    max_bin: int = hp("bins of a feature (hist, approx)", default=256, ge=0)
    predictor: str = hp(
        "gone from xgboost; announced", default="auto", choices=("auto", "cpu_predictor", "gpu_predictor")
    )
    monotone_constraints: list[int] = hp("(1,0,-1): sign of each feature's effect", default=None, check=_signs)
    interaction_constraints: list[list[int]] = hp(
        "[[0,1],[2,3]]: features that may share a path", default=None, check=_indices
    )
    sample_type: str = hp("dart: how dropped trees are drawn", default="uniform", choices=("uniform", "weighted"))
    normalize_type: str = hp("dart: weight of new trees", default="tree", choices=("tree", "forest"))
    rate_drop: float = hp("dart: share of trees dropped", default=0.0, ge=0, le=1)
    one_drop: int = hp("dart: 1: drop at least one tree", default=0, choices=(0, 1))
    skip_drop: float = hp("dart: chance that nothing is dropped", default=0.0, ge=0, le=1)
    lambda_bias: float = hp("gblinear: L2 penalty of the bias", default=0.0, ge=0, le=1)
    tweedie_variance_power: float = hp("variance power of Tweedie", default=1.5, gt=1, lt=2)
    objective: str = hp("what is learnt; reg:squarederror by default", default=None, choices=OBJECTIVES)
    base_score: float = hp("prediction before the first tree; estimated by default", default=None, ge=0)
    eval_metric: list[str] = hp("metrics, comma-separated; the objective's own by default", default=None)
    seed: int = hp("random seed", default=0, gt=-(2**31), lt=2**31 - 1)
    num_parallel_tree: int = hp("trees per round (random forests)", default=1, ge=1)
    save_model_on_termination: bool = hp("rewrite the model every round, for jobs that get stopped", default=False)
    aft_loss_distribution: str = hp(
        "survival:aft: distribution of the error", default="normal", choices=("normal", "logistic", "extreme")
    )
    aft_loss_distribution_scale: float = hp("survival:aft: its scale", default=None, ge=0)
    deterministic_histogram: bool = hp("gone from xgboost; announced", default=True)
    single_precision_histogram: bool = hp("gone from xgboost; announced", default=False)
    sampling_method: str = hp("how rows are drawn", default="uniform", choices=("uniform", "gradient_based"))
    prob_buffer_row: float = hp("gone from xgboost; announced", default=None, gt=1)
    use_dask_gpu_training: bool = hp("train on all GPUs of all hosts; refused without a GPU", default=False)
    kfold: int = hp("folds of cross-validation", name="_kfold", default=None, ge=2)
    num_cv_round: int = hp("repeats of cross-validation", name="_num_cv_round", default=1, ge=1)
    tuning_objective_metric: str = hp(
        "metric of a tuning job, `validation:x`", name="_tuning_objective_metric", default=None
    )

    @classmethod
    def unknown_hyperparameter(cls, name: str) -> str:
        return f"Extraneous hyperparameter found: {name}"

    @classmethod
    def warm_up(cls) -> None:
        from sagesmith.algorithms.xgboost.loading import load_beside

        load_beside()

    def check(self) -> None:
        labels = getattr(self, "classes_", None)
        if self.settings["num_class"] is None and labels is not None and self.goal.startswith("multi:"):
            self._settings["num_class"] = max(2, len(labels))
        rules.check(self.settings, classes_known=labels is not None)

    @property
    def goal(self) -> str:
        """The objective in force."""
        return rules.objective({"objective": self.objective})

    @property
    def task(self) -> Role:
        if self.goal.startswith(("binary:", "multi:")):
            return "classifier"
        return "other" if self.goal.startswith(("rank:", "survival:")) else "regressor"

    @property
    def takes_many_classes(self) -> bool:
        return self.goal.startswith("multi:")

    @property
    def class_count(self) -> int | None:
        if self.goal.startswith("binary:"):
            return 2
        return None if self.num_class is None else int(self.num_class)

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.xgboost.training import train

        train(self, channels, run)

    @property
    def booster_model(self) -> xgboost.Booster:
        """The trained `xgboost.Booster`; the first one after k-fold."""
        return self.ensemble_.boosters[0]

    def keep(self, boosters: list[xgboost.Booster]) -> None:
        """Takes trained boosters as what was learnt."""
        from sagesmith.algorithms.xgboost.prediction import Ensemble

        self.ensemble_: Ensemble = Ensemble(boosters, threads=int(self.settings["nthread"] or Run().threads))
        if self.task == "classifier" and "classes_" not in vars(self):
            self.classes_ = np.arange(self.ensemble_.classes)

    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`score`: what xgboost predicts for the objective, (n,) or (n, classes) for multi:softprob."""
        return {"score": self.ensemble_.predict(batch.features)}

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """Class labels of a classifier (endpoints answer the score), values otherwise."""
        score = np.asarray(fields["score"])
        if self.task != "classifier":
            return score
        return np.asarray(self.classes_[metric_names.labels_of(score, self.goal)])

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """(n, classes) probabilities; of the decision itself where the objective knows no more (softmax, hinge)."""
        score = np.asarray(fields["score"])
        if score.ndim == 2:
            return score
        if self.goal in ("multi:softmax", "binary:hinge"):
            return np.asarray(np.eye(len(self.classes_))[score.astype(int)])
        positive = 1 / (1 + np.exp(-score)) if self.goal == "binary:logitraw" else score
        return np.column_stack([1 - positive, positive])

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.xgboost.serving import respond

        return respond(self.ensemble_, request)

    def save(self, folder: Path) -> None:
        from sagesmith.algorithms.xgboost.artifact import save

        labels = getattr(self, "classes_", None)
        names = getattr(self, "feature_names_in_", None)
        defaults = {attribute: parameter.default for attribute, parameter in self.hyperparameters.items()}
        changed = {name: value for name, value in self.get_params().items() if value != defaults[name]}
        save(self.ensemble_.boosters, folder, labels, names, changed)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A model written by `save`, or by xgboost or SageMaker's container as UBJSON or JSON; never a pickle."""
        from sagesmith.algorithms.xgboost.artifact import load
        from sagesmith.algorithms.xgboost.prediction import describe

        boosters, ours = load(folder)
        parameters = {k: v for k, v in ours.get("hyperparameters", {}).items() if k in cls.hyperparameters}
        model = cls(**parameters)
        if "num_round" not in parameters:
            model.num_round = max(1, boosters[0].num_boosted_rounds())
        model.n_features_in_ = int(boosters[0].num_features())
        if ours.get("feature_names"):
            model.feature_names_in_ = np.asarray(ours["feature_names"], dtype=object)
        if "classes" in ours:
            model.classes_ = np.asarray(ours["classes"])
        objective, classes = describe(boosters[0])
        model.set_params(objective=objective, num_class=classes or None)
        model.keep(boosters)
        return model
