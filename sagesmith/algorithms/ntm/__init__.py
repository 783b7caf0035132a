"""NTM: the neural topic model: topics of documents from their counts of words, by a variational autoencoder.

Papers: Miao et al., Neural Variational Inference for Text Processing, ICML 2016; Ding et al., Coherence-Aware Neural
Topic Modeling, EMNLP 2018 (its measures, and SageMaker's).

    encoder and decoder                 network.py
    first weights: clusters             start.py
    epochs, log, checkpoints            training.py, averaging.py, stopping.py
    vocabulary and word embeddings      vocabulary.py
    topics as words, TU, WETC           topics.py
    answers, without torch              encoding.py

SageMaker is followed to the letter in hyperparameters, channels, content types, log lines and answers; its network is
closed. Ours, and the reasons for it: docs/decisions/0030 and 0038. Left out: MXNet's file format.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from sagesmith.algorithms import counts, scikit
from sagesmith.algorithms.base import FILES, ChannelSpec, HyperparameterError, Metric
from sagesmith.algorithms.first_party import JOB_METRICS, ROWS, FirstParty
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

OPTIMIZERS = ("sgd", "adam", "adagrad", "adadelta", "rmsprop")
ACTIVATIONS = ("sigmoid", "tanh", "relu")


def _sizes(value: Any) -> str | None:
    if value == "auto" or (value and all(size >= 1 for size in value)):
        return None
    return "auto or a list of positive integers"


class NTM(FirstParty):
    """Neural topic model: topics from counts of words, by a variational autoencoder."""

    name = "ntm"
    images = ("ntm",)
    role = "transformer"
    dimension = "AWS/NTM"
    takes_negative: ClassVar[bool] = False
    distributed = True
    channels = (
        ChannelSpec("train", True, ROWS, ROWS[0], label_size=0),
        # Documented as FullyReplicated; the SDK's record_set shards them, and losses are sums over hosts either way.
        ChannelSpec("validation", False, ROWS, ROWS[0], label_size=0),
        ChannelSpec("test", False, ROWS, ROWS[0], label_size=0),
        ChannelSpec(
            "auxiliary", False, ("text/plain",), "text/plain", modes=FILES,
            distributions=("FullyReplicated",),
        ),
    )  # fmt: skip
    metrics = (
        *(
            Metric(
                f"{name}:total_loss",
                rf"#quality_metric: host=\S+, epoch=\S+, {name} total_loss <loss>=(\S+)",
                "Minimize",
            )
            for name in ("validation", "train", "test")
        ),
        *JOB_METRICS,
    )
    example = {"num_topics": 3, "epochs": 3, "mini_batch_size": 20}
    exceptions = {
        "check_estimator_sparse_array": "wants one number per row from `predict`, which gives the topic weights",
        "check_estimator_sparse_matrix": "wants one number per row from `predict`, which gives the topic weights",
    }

    feature_dim: int | None = hp("words of the vocabulary", default=None, inferred=True, ge=1, le=1_000_000)
    num_topics: int = hp("topics", ge=2, le=1000)
    batch_norm: bool = hp("normalise layers over the batch while training", default=False)
    clip_gradient: float | Literal["Inf", "inf", "Infinity"] = hp(
        "largest magnitude of a component of the gradient; Inf: any", default="Inf", ge=1e-3
    )
    encoder_layers: list[int] | Literal["auto"] = hp(
        "sizes of the encoder's layers, e.g. 200,100; auto: 3 and 2 times num_topics", default="auto", check=_sizes
    )
    encoder_layers_activation: str = hp(
        "their activation", default="sigmoid", choices=ACTIVATIONS, tunable=Tunable(values=ACTIVATIONS)
    )
    epochs: int = hp("passes over the data at most", default=50, ge=1)
    learning_rate: float = hp(
        "step size; without effect on adadelta", default=0.01, ge=1e-6, le=1.0, tunable=Tunable(1e-4, 0.1)
    )
    mini_batch_size: int = hp("documents of a step", default=256, ge=1, le=10_000, tunable=Tunable(16, 2048))
    num_patience_epochs: int = hp(
        "bad epochs in a row that end training, and epochs whose least loss tells a bad one; more than epochs: never",
        default=3,
        ge=1,
    )
    optimizer: str = hp(
        "optimizer", default="adadelta", choices=OPTIMIZERS, tunable=Tunable(values=("sgd", "adam", "adadelta"))
    )
    rescale_gradient: float = hp("factor on the gradient", default=1.0, ge=1e-3, le=1.0, tunable=Tunable(0.1, 1.0))
    sub_sample: float = hp("share of the training documents that an epoch draws", default=1.0, ge=0.0, le=1.0)
    tolerance: float = hp("relative fall of the loss below which an epoch is bad", default=0.001, ge=1e-6, le=0.1)
    weight_decay: float = hp("L2 penalty", default=0.0, ge=0.0, le=1.0, tunable=Tunable(0.0, 1.0))
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 62)

    def check(self) -> None:
        if self.settings["batch_norm"] and self.settings["mini_batch_size"] == 1:
            raise HyperparameterError("Hyperparameter mini_batch_size: 1 is not in [2, 10000], as batch_norm is true")

    @classmethod
    def warm_up(cls) -> None:
        threading.Thread(target=_load, name="loading scipy", daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(
        self, X: Any, y: Any = None, *, vocabulary: Sequence[str] | None = None, run: Run | None = None, **channels: Any
    ) -> Self:
        """Learns from counts (n, V), dense or sparse, or a Channel.

        Args:
            y: ignored.
            vocabulary: V words, by which topics are then told; the same as an auxiliary channel with vocab.txt.
            channels: `validation`, `test`: likewise counts; `auxiliary`: a Channel over files.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        self._given_words = vocabulary
        try:
            return super().fit(X, None, run=run, **channels)
        finally:
            del self._given_words

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms import nets
        from sagesmith.algorithms.ntm.network import folded
        from sagesmith.algorithms.ntm.training import Training

        given = self._read(channels, run)
        settings = {**self.settings, "feature_dim": given["train"].shape[1]}
        words = self._words(channels.get("auxiliary"), settings["feature_dim"])
        team = nets.Team(run, settings["seed"])
        try:
            training = Training(settings, given["train"], given.get("validation"), team)
            epochs = training.epochs()
            self._keep(folded(training.network), words)
            if run.is_master:
                self._describe(channels.get("auxiliary"), run)
            if run.model is not None:
                run.log("Serializing model to %s/model_algo-1", run.model)
            if "test" in given:
                run.quality("test total_loss", training.score(given["test"]).total, "loss", epochs)
            else:
                run.log("Test data is not provided.")
        finally:
            team.close()

    def _read(self, channels: Mapping[str, Channel], run: Run) -> dict[str, Any]:
        """The documents of each channel, CSR without empty rows."""
        from sagesmith.algorithms.ntm.training import without_empty

        width = self.settings["feature_dim"]
        found: dict[str, Any] = {}
        for name in ("train", "validation", "test"):
            if name in channels:
                read = counts.read(channels[name], width, empty=len(run.hosts) > 1)
                width = width or read.shape[1]
                found[name] = without_empty(read, name, run)
                if name != "train" and not any(map(len, run.gather(b"*" * bool(found[name].shape[0])))):
                    raise DataError(f"channel {name!r} holds no document with a word")
        if not width:
            raise DataError("feature_dim must be given where a host may have no documents")
        return found

    def _words(self, auxiliary: Channel | None, width: int) -> list[str] | None:
        from sagesmith.algorithms.ntm import vocabulary

        if auxiliary is not None:
            return vocabulary.read(auxiliary, width)
        words = getattr(self, "_given_words", None)
        return None if words is None else vocabulary.checked(words, width, "vocabulary")

    def _describe(self, auxiliary: Channel | None, run: Run) -> None:
        from sagesmith.algorithms.ntm import topics, vocabulary

        file = vocabulary.embeddings_file(auxiliary)
        vectors = None
        if file is not None and self.vocabulary_ is not None:
            vectors, missing = vocabulary.vectors(file, self.vocabulary_)
            if missing:
                run.log(
                    "%d out of %d in vocabulary do not have embeddings! Default vector used for unknown embedding!",
                    missing, len(self.vocabulary_),
                )  # fmt: skip
        described = topics.described(self._relevance(), self.vocabulary_, vectors)
        for line in described.lines(self.vocabulary_ is not None):
            run.log("%s", line)

    def _keep(self, model: Mapping[str, np.ndarray], words: list[str] | None) -> None:
        """What was learnt: `topic_logits_` (V, K) and `vocabulary_`, V words or None."""
        self._model = model
        self.topic_logits_ = model["topics"]
        self.vocabulary_ = words
        self.n_features_in_ = len(self.topic_logits_)

    # -- asking ------------------------------------------------------------------------------------------------
    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`topic_weights` (n, num_topics) float32, softmax of the posterior's mode: a row sums to 1.

        A document without words has all weights equal.
        """
        from sagesmith.algorithms.ntm.encoding import topic_weights

        documents = counts.asked(batch, self.topic_logits_.shape[0])
        return {"topic_weights": topic_weights(self._model, documents, self.settings["encoder_layers_activation"])}

    def transform(self, X: Any) -> np.ndarray:
        """The topic weights of documents, (n, num_topics)."""
        return np.asarray(self.predict(X))

    def topics(self, count: int = 20) -> list[list[str]]:
        """The `count` words that are most relevant to each topic, most first; ids where no vocabulary was given."""
        from sagesmith.algorithms.ntm.topics import described

        self._check_fitted()
        return described(self._relevance(), self.vocabulary_, None, count).words

    def topic_uniqueness(self, count: int = 20) -> np.ndarray:
        """TU of each topic by its `count` first words, (num_topics,): 1 where no other topic lists them."""
        from sagesmith.algorithms.ntm.topics import top, uniqueness

        self._check_fitted()
        return uniqueness(top(self._relevance(), count))

    def _relevance(self) -> np.ndarray:
        from sagesmith.algorithms.ntm.topics import relevance

        return relevance(self.topic_logits_, self._model["background"])

    def topic_words(self) -> np.ndarray:
        """The words' probabilities in a document of one topic alone, (num_topics, V); rows sum to 1."""
        self._check_fitted()
        return self.word_probabilities(np.eye(self.topic_logits_.shape[1], dtype=np.float32))

    def word_probabilities(self, weights: np.ndarray) -> np.ndarray:
        """p(word | topic weights) of weights (n, num_topics), (n, V): the decoder, a product of experts."""
        self._check_fitted()
        logits = weights @ self.topic_logits_.T + self._model["background"]
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)

    # -- the artifact ------------------------------------------------------------------------------------------
    def arrays(self) -> Mapping[str, np.ndarray]:
        """`layer_<i>_weight` and `_bias`, `mean_weight`, `mean_bias`, `topics` (V, K), `background` (V,)."""
        return self._model

    def facts(self) -> Mapping[str, Any]:
        return {"vocabulary": self.vocabulary_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.ntm.encoding import layer_count

        width, topics = arrays["topics"].shape
        sizes = [width, *(len(arrays[f"layer_{number}_bias"]) for number in range(layer_count(arrays))), topics]
        names = [*(f"layer_{number}" for number in range(len(sizes) - 2)), "mean"]
        for name, before, after in zip(names, sizes[:-1], sizes[1:], strict=True):
            if (arrays[f"{name}_weight"].shape, arrays[f"{name}_bias"].shape) != ((before, after), (after,)):
                raise ValueError(f"{name} does not fit the layers beside it")
        if arrays["background"].shape != (width,) or topics != self.settings["num_topics"] or len(sizes) < 3:
            raise ValueError("arrays and num_topics are not of one model")
        words = facts["vocabulary"]
        if words is not None and len(words) != width:
            raise ValueError(f"the vocabulary has {len(words)} words, the model {width}")
        self._keep({name: np.asarray(array, np.float32) for name, array in arrays.items()}, words)


def _load() -> None:
    from scipy import sparse  # noqa: F401
