"""Object2Vec: vectors of objects, learnt from pairs of them: sentence and sentence, user and film, text and label.

Two encoders make a vector of each side's list of token ids; comparators, dense layers and a class or a number for the
pair follow. SageMaker's names, ranges, log lines and answers are followed to the letter; it publishes no paper. The
encoders are those of Conneau et al., Supervised Learning of Universal Sentence Representations (2017). Left out:
several hosts, which SageMaker's image does not have either; all GPUs of a host are used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import FILES, ChannelSpec, HyperparameterError, Metric, Request, Response, Role, not_rows
from sagesmith.algorithms.first_party import JOB_METRICS, FirstParty
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.object2vec import configuration
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.object2vec.network import Network
    from sagesmith.algorithms.object2vec.pairs import Pairs, Tokens
    from sagesmith.formats.channel import Channel

JSONLINES = "application/jsonlines"
NETWORKS = ("hcnn", "bilstm", "pooled_embedding")
MODES = ("embedding", "classification")
MODE = "INFERENCE_PREFERRED_MODE"


def _quality(channel: str, name: str, kind: str) -> str:
    epoch = r"epoch=\S+, " if channel == "validation" else ""
    return rf"#quality_metric: host=\S+, {epoch}{channel} {name} <{kind}>=(\S+)"


def _file_name(value: str) -> str | None:
    named = all(c.isascii() and (c.isalnum() or c in "._") for c in value)
    return None if named else "made of letters, digits, dots and underscores"


def _length(side: str, **options: Any) -> Any:
    return hp(f"most tokens of {side}; longer lists are cut", ge=1, le=5000, **options)


def _vocabulary(side: str, **options: Any) -> Any:
    return hp(f"token ids of {side} are 0 to this, less one", ge=2, le=3_000_000, **options)


def _filter(side: str) -> Any:
    return hp(f"tokens in a window of hcnn, {side}", default=3, ge=1, le=9, tunable=Tunable(1, 5))


def _layers(side: str) -> Any:
    return hp(
        f"layers of the encoder of {side}; auto: 4 of hcnn, 1 of bilstm; pooled_embedding has none",
        default="auto", ge=1, le=4, tunable=Tunable(1, 4),
    )  # fmt: skip


def _token_dim(side: str) -> Any:
    return hp(
        f"size of the token vectors of {side}; enc_dim for pooled_embedding",
        default=300, ge=2, le=1000, tunable=Tunable(5, 300),
    )  # fmt: skip


def _file(what: str) -> Any:
    return hp(f"{what}, in the channel auxiliary", default="", check=_file_name)


def _freeze(side: str) -> Any:
    return hp(f"whether the pretrained token vectors of {side} stay as they are", default=True)


class Object2Vec(FirstParty):
    """Vectors of objects such as sentences, users or products, learnt from labelled pairs of them."""

    name = "object2vec"
    images = ("object2vec",)
    takes_sparse = False
    channels = (
        ChannelSpec("train", True, (JSONLINES,), JSONLINES, modes=FILES),
        ChannelSpec("validation", False, (JSONLINES,), JSONLINES, modes=FILES),
        ChannelSpec("test", False, (JSONLINES,), JSONLINES, modes=FILES),
        ChannelSpec("auxiliary", False, (), "application/json", modes=FILES, distributions=("FullyReplicated",)),
    )
    metrics = (
        Metric("validation:mean_squared_error", _quality("validation", "mean_squared_error", "loss"), "Minimize"),
        Metric("validation:accuracy", _quality("validation", "accuracy", "score"), "Maximize"),
        Metric("validation:cross_entropy", _quality("validation", "cross_entropy", "loss"), "Minimize"),
        Metric("test:mean_squared_error", _quality("test", "mean_squared_error", "loss"), "Minimize"),
        Metric("test:accuracy", _quality("test", "accuracy", "score"), "Maximize"),
        Metric("test:cross_entropy", _quality("test", "cross_entropy", "loss"), "Minimize"),
        *JOB_METRICS,
    )
    accepts = ("application/json", JSONLINES)
    returns = ("application/json", JSONLINES)
    example = {
        "enc0_max_seq_len": 5, "enc0_vocab_size": 20, "enc0_network": "pooled_embedding", "enc_dim": 8, "mlp_dim": 8,
        "epochs": 2, "learning_rate": 0.01,
    }  # fmt: skip
    exceptions = not_rows("pairs of token lists")

    enc0_max_seq_len: int = _length("in0")
    enc0_vocab_size: int = _vocabulary("in0")
    bucket_width: int = hp(
        "pairs whose lengths lie in one range of this width are learnt together; 0: no such groups",
        default=0, ge=0, le=100,
    )  # fmt: skip
    comparator_list: str = hp(
        "how the two vectors are compared, in this order", default="hadamard, concat, abs_diff",
        check=configuration.wrong_comparators,
    )  # fmt: skip
    dropout: float = hp(
        "dropout of the encoders' vectors and between layers", default=0.0, ge=0, le=1, tunable=Tunable(0.0, 1.0)
    )
    early_stopping_patience: int = hp(
        "epochs in a row without improvement that end training", default=3, ge=1, le=5, tunable=Tunable(1, 5)
    )
    early_stopping_tolerance: float = hp(
        "fall of the loss that counts as improvement", default=0.01, ge=1e-6, le=0.1, tunable=Tunable(0.001, 0.1)
    )
    enc_dim: int = hp("size of the encoders' vectors", default=4096, ge=4, le=10000, tunable=Tunable(4, 4096))
    enc0_network: str = hp("encoder of in0", default="hcnn", choices=NETWORKS)
    enc0_cnn_filter_width: int = _filter("in0")
    enc0_freeze_pretrained_embedding: bool = _freeze("in0")
    enc0_layers: int | Literal["auto"] = _layers("in0")
    enc0_pretrained_embedding_file: str = _file("file of token vectors for in0")
    enc0_token_embedding_dim: int = _token_dim("in0")
    enc0_vocab_file: str = _file("file with the id of each token for in0")
    enc1_network: str = hp(
        "encoder of in1; enc0: like that of in0 in everything but the weights", default="enc0",
        choices=("enc0", *NETWORKS),
    )  # fmt: skip
    enc1_cnn_filter_width: int = _filter("in1")
    enc1_freeze_pretrained_embedding: bool = _freeze("in1")
    enc1_layers: int | Literal["auto"] = _layers("in1")
    enc1_max_seq_len: int | None = _length("in1", default=None)
    enc1_pretrained_embedding_file: str = _file("file of token vectors for in1")
    enc1_token_embedding_dim: int = _token_dim("in1")
    enc1_vocab_file: str = _file("file with the id of each token for in1")
    enc1_vocab_size: int | None = _vocabulary("in1", default=None)
    epochs: int = hp("most passes over the data", default=30, ge=1, le=100, tunable=Tunable(4, 20))
    learning_rate: float = hp(
        "step size; without effect on adadelta",
        default=0.0004,
        ge=1e-6,
        le=1.0,
        tunable=Tunable(1e-6, 1.0, "Logarithmic"),
    )
    mini_batch_size: int = hp("pairs of a batch", default=32, ge=1, le=10000, tunable=Tunable(1, 8192))
    mlp_activation: str = hp(
        "activation of the dense layers", default="linear", choices=("tanh", "relu", "linear"),
        tunable=Tunable(values=("tanh", "relu", "linear")),
    )  # fmt: skip
    mlp_dim: int = hp("units of a dense layer", default=512, ge=2, le=10000, tunable=Tunable(16, 1024))
    mlp_layers: int = hp("dense layers before the output", default=2, ge=0, le=10, tunable=Tunable(1, 4))
    negative_sampling_rate: int = hp(
        "negative pairs, labelled 0, that are drawn for each pair whose label is not 0", default=0, ge=0
    )
    num_classes: int = hp("classes", default=2, ge=2, le=30)
    optimizer: str = hp(
        "optimiser", default="adam", choices=("adadelta", "adagrad", "adam", "sgd", "rmsprop"),
        tunable=Tunable(values=("adagrad", "adam", "rmsprop", "sgd", "adadelta")),
    )  # fmt: skip
    output_layer: str = hp(
        "a class or a number for each pair", default="softmax", choices=("softmax", "mean_squared_error")
    )
    tied_token_embedding_weight: bool = hp("one table of token vectors for both encoders", default=False)
    token_embedding_storage_type: str = hp(
        "row_sparse: the optimiser moves only the rows of a batch; goes with adam, adagrad and sgd, without buckets",
        default="dense", choices=("dense", "row_sparse"),
    )  # fmt: skip
    weight_decay: float = hp("L2 penalty", default=0.0, ge=0, le=10000, tunable=Tunable(0.0, 1.0))
    feature_dim: int | None = hp(
        "without effect; SageMaker's Python SDK sends it to each of its own algorithms", default=None, ge=1
    )
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 63)

    def check(self) -> None:
        configuration.check(self.settings)

    @property
    def task(self) -> Role:
        return "classifier" if self.settings["output_layer"] == "softmax" else "regressor"

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module
        from threading import Thread

        Thread(target=import_module, args=("torch",), daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from pairs `X`, each (in0, in1) of token ids, and their labels `y`.

        Args:
            X: a sequence of pairs of lists of ids (or single ids), or an (n, 2) array of single ids; or, without y, a
                file or folder of JSON Lines, or a Channel.
            channels: `validation` and `test`, likewise, as (X, y) where they are pairs; `auxiliary`: a folder.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        self.validate()
        given = {"train": self.channel_of("train", X if y is None else (X, y))}
        given |= {name: self.channel_of(name, value) for name, value in channels.items() if value is not None}
        self.train(given, run or Run())
        return self

    def channel_of(self, name: str, value: Any) -> Channel:
        from sagesmith.algorithms.object2vec.pairs import of_python
        from sagesmith.formats.channel import Channel, HeldChannel

        if isinstance(value, Channel):
            return value
        if isinstance(value, str | Path):
            return Channel.from_folder(name, Path(value), JSONLINES)
        if not isinstance(value, tuple) or len(value) != 2:
            raise ValueError(f"{name}: pairs need labels: (X, y), or a file or folder of JSON Lines")
        if value[1] is None:
            raise ValueError("This Object2Vec estimator requires y to be passed, but the target y is None.")
        return HeldChannel.over(name, of_python(*value))

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.nets import Team, flushed
        from sagesmith.algorithms.object2vec.network import Network
        from sagesmith.algorithms.object2vec.training import KINDS, Training

        settings = self.settings
        self._describe(run)
        pairs = {name: self._read(channels[name]) for name in ("train", "validation", "test") if name in channels}
        run.log("%d pairs to learn from", len(pairs["train"]))
        team = Team(run, seed=settings["seed"])
        try:
            network = Network(settings)
            self._take_pretrained(network, channels.get("auxiliary"), run)
            network = team.copied(network)
            training = Training(network, settings, pairs["train"], pairs.get("validation"), team)
            with flushed():
                training.run()
            if "test" in pairs:
                for name, value in training.measured(pairs["test"]).items():
                    run.quality(f"test {name}", value, KINDS[name])
        finally:
            team.close()
        self.network_ = network.eval()

    def _describe(self, run: Run) -> None:
        """The lines with which SageMaker's image begins."""
        changed = {p.name: v for p, v in zip(self.hyperparameters.values(), self.settings.values(), strict=True)
                   if v != p.default}  # fmt: skip
        encoders = [encoder.described() for encoder in configuration.encoders_of(self.settings)]
        run.log("Parameters of encoders: %s", [sorted(encoder) for encoder in encoders])
        run.log("Encoder configs: %s", encoders)
        for line in configuration.remarks(self.settings, changed):
            run.log("%s", line)

    def _read(self, channel: Channel) -> Pairs:
        from sagesmith.algorithms.object2vec.reading import read_channel

        first, second = configuration.encoders_of(self.settings)
        return read_channel(channel, self._check_pairs).cut((first.max_seq_len, second.max_seq_len))

    def _check_pairs(self, pairs: Pairs) -> None:
        """Raises DataError for labelled pairs that are not of this model's vocabularies and labels."""
        from sagesmith.algorithms.object2vec.pairs import check_labels

        self.check_tokens(pairs)
        check_labels(pairs, self.settings["num_classes"] if self.task == "classifier" else None)

    def check_tokens(self, pairs: Pairs) -> None:
        """Raises DataError for a token id that is not in the vocabulary of its encoder."""
        from sagesmith.algorithms.object2vec.pairs import check_vocabulary

        first, second = configuration.encoders_of(self.settings)
        check_vocabulary(pairs, (first.vocab_size, second.vocab_size))

    def _take_pretrained(self, network: Network, auxiliary: Channel | None, run: Run) -> None:
        import torch

        from sagesmith.algorithms.object2vec.pretrained import read as read_file

        encoders = configuration.encoders_of(self.settings)
        read = cache(read_file)  # encoder 1 may have the settings, and so the file, of encoder 0
        for side, encoder in enumerate(encoders[: len(network.tables)]):
            if not encoder.pretrained:
                continue
            if auxiliary is None:
                raise HyperparameterError(
                    f"enc{side}_pretrained_embedding_file is {encoder.pretrained_embedding_file!r}, but there is no "
                    "channel 'auxiliary' to read it from"
                )
            rows, vectors = read(auxiliary, encoder)
            with torch.no_grad():
                network.table(side).weight[torch.from_numpy(rows)] = torch.from_numpy(vectors)
            run.log("enc%d: %d of %d token vectors are pretrained", side, len(rows), encoder.vocab_size)

    # -- asking ------------------------------------------------------------------------------------------------
    def infer(self, batch: Any, **options: Any) -> Mapping[str, Any]:
        """Of Pairs: `scores` (n, num_classes) or (n, 1); of one side alone `embeddings` (n, enc_dim).

        Args:
            options: `longest`: the greatest lengths of in0 and in1, in place of enc0_max_seq_len and enc1_max_seq_len.

        Raises:
            DataError: a token id that is not in the vocabulary.
        """
        import torch

        from sagesmith.algorithms.object2vec.pairs import check_rows

        first, second = configuration.encoders_of(self.settings)
        check_rows(batch, self.check_tokens, lambda row: f"row {row}")
        pairs: Pairs = batch.cut(options.get("longest") or (first.max_seq_len, second.max_seq_len))
        with torch.inference_mode():
            found = [self._answers(part).cpu().numpy() for part in pairs.parts()]
        whole = pairs.in0 is not None and pairs.in1 is not None
        return {"scores" if whole else "embeddings": np.concatenate(found)}

    def _answers(self, pairs: Pairs) -> Any:
        if pairs.in0 is not None and pairs.in1 is not None:
            answers = self.network_(pairs.in0, pairs.in1)
            return answers.softmax(dim=1) if self.task == "classifier" else answers
        if pairs.in0 is not None:
            return self.network_.encode(0, pairs.in0)
        assert pairs.in1 is not None
        return self.network_.encode(1, pairs.in1)

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        scores = fields["scores"]
        return np.asarray(scores.argmax(axis=1) if self.task == "classifier" else scores[:, 0])

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(fields["scores"])

    def _fields(self, X: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        from sagesmith.algorithms.object2vec.pairs import Pairs, of_python
        from sagesmith.algorithms.object2vec.reading import read_channel
        from sagesmith.formats.channel import Channel

        self._check_fitted()
        if isinstance(X, str | Path):
            X = Channel.from_folder("predict", Path(X), JSONLINES)
        pairs = X if isinstance(X, Pairs) else read_channel(X) if isinstance(X, Channel) else of_python(X)
        return self.infer(pairs, **options)

    def embed(self, in0: Sequence[Any] | None = None, in1: Sequence[Any] | None = None) -> np.ndarray:
        """The vectors, (n, enc_dim), of lists of token ids (or single ids) on one side: `in0=` or `in1=`.

        Raises:
            ValueError: not fitted, both sides or none, or ids that are not in the vocabulary.
        """
        from sagesmith.algorithms.object2vec.pairs import Pairs, of_lists

        self._check_fitted()
        given = [side for side in (in0, in1) if side is not None]
        if len(given) != 1 or not len(given[0]):
            raise ValueError("embed takes one side, in0= or in1=, with at least one list of token ids")
        tokens: Tokens = of_lists(given[0], "in0" if in0 is not None else "in1")
        return np.asarray(self.infer(Pairs(tokens, None) if in0 is not None else Pairs(None, tokens))["embeddings"])

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.object2vec.requests import respond

        return respond(self, request)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)

    # -- the artifact ------------------------------------------------------------------------------------------
    def arrays(self) -> Mapping[str, np.ndarray]:
        from sagesmith.algorithms.nets import weights_of

        return weights_of(self.network_)

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.nets import serving_device, take_weights
        from sagesmith.algorithms.object2vec.network import Network

        network = Network(self.settings)
        take_weights(network, arrays)
        network.to(serving_device())
        if os.environ.get(MODE) == "embedding":  # the GPU's memory is for the encoders
            network.mlp.to("cpu")
        self.network_ = network.eval()

    @classmethod
    def load(cls, folder: Path) -> Self:
        mode = os.environ.get(MODE, "")
        if mode and mode not in MODES:
            raise ValueError(f"{MODE} is {mode!r}; it must be one of {', '.join(MODES)}")
        return super().load(folder)
