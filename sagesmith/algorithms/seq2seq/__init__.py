"""Sequence-to-Sequence: a sentence of tokens in, another out: translation, summaries, speech in tokens.

Encoder and decoder with attention, trained by teacher forcing, decoded by beam search, as in SageMaker's image, which
is built on Sockeye 1 (Hieber et al., Sockeye: A Toolkit for Neural Machine Translation, 2017). Recurrent networks are
those of Luong et al. (2015) with input feeding, convolutional ones those of Gehring et al. (2017). Left out: several
hosts, which SageMaker's image does not have either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import FILES, ChannelSpec, HyperparameterError, Metric, Request, Response, not_rows
from sagesmith.algorithms.first_party import JOB_METRICS, RECORDIO, FirstParty
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.seq2seq.beam import Translation
    from sagesmith.algorithms.seq2seq.sentences import Pairs, Sentences
    from sagesmith.algorithms.seq2seq.vocabulary import Vocabulary
    from sagesmith.formats.channel import Channel

CHECKPOINT = r"#quality_metric: host=\S+, epoch=\S+, validation "
SIZES = ("128", "256", "512", "1024", "2048")
DROPOUT = Tunable(0, 0.5)
DECODED_TOGETHER = 32  # sentences


class Seq2Seq(FirstParty):
    """Translates sequences of tokens into others: encoder, decoder and attention."""

    name = "seq2seq"
    images = ("seq2seq",)
    takes_sparse = False
    channels = (
        ChannelSpec("train", True, (RECORDIO,), RECORDIO, modes=FILES),
        ChannelSpec("validation", True, (RECORDIO,), RECORDIO, modes=FILES),
        ChannelSpec("vocab", True, (), "application/json", modes=FILES),
    )
    metrics = (
        Metric("validation:accuracy", CHECKPOINT + r"accuracy <score>=(\S+)", "Maximize"),
        Metric("validation:bleu", CHECKPOINT + r"bleu <score>=(\S+)", "Maximize"),
        Metric("validation:perplexity", CHECKPOINT + r"perplexity <loss>=(\S+)", "Minimize"),
        *JOB_METRICS,
    )
    accepts = ("application/json", RECORDIO, "application/jsonlines")
    returns = ("application/json", "application/jsonlines", RECORDIO)
    example = {
        "num_embed_source": 8, "num_embed_target": 8, "rnn_num_hidden": 16, "batch_size": 8, "max_num_epochs": 2,
        "checkpoint_frequency_num_batches": 4,
    }  # fmt: skip
    exceptions = not_rows("pairs of sentences")

    batch_size: int = hp(
        "pairs of a batch",
        default=64,
        gt=0,
        tunable=Tunable(values=("16", "32", "64", "128", "256", "512", "1024", "2048")),
    )
    beam_size: int = hp("hypotheses of the beam search, for BLEU while training and for inference", default=5, gt=0)
    bleu_sample_size: int = hp(
        "validation sentences that are translated for BLEU at each checkpoint; 0: none, -1: all", default=0, ge=-1
    )
    bucket_width: int = hp(
        "step of the buckets' lengths on the side that is longer on average; the other side's is scaled by the mean "
        "ratio of lengths", default=10, gt=0,
    )  # fmt: skip
    bucketing_enabled: bool = hp("false: one bucket of the largest lengths", default=True)
    checkpoint_frequency_num_batches: int = hp("batches from one checkpoint to the next", default=1000, gt=0)
    checkpoint_threshold: int = hp("checkpoints without improvement that end training", default=3, gt=0)
    clip_gradient: float = hp(
        "bound for every component of the gradient; negative: none", default=1.0, tunable=Tunable(1, 5),
        check=lambda value: None if value else "positive, or negative for no bound",
    )  # fmt: skip
    cnn_activation_type: str = hp(
        "activation of the convolutions", default="glu", choices=("glu", "relu", "softrelu", "sigmoid", "tanh")
    )
    cnn_hidden_dropout: float = hp("dropout between convolutions", default=0.0, ge=0, le=1, tunable=DROPOUT)
    cnn_kernel_width_decoder: int = hp("tokens in a window of the decoder", default=5, gt=0)
    cnn_kernel_width_encoder: int = hp("tokens in a window of the encoder", default=3, gt=0)
    cnn_num_hidden: int = hp("units of a convolution", default=512, gt=0, tunable=Tunable(values=SIZES))
    decoder_type: str = hp("recurrent or convolutional decoder", default="rnn", choices=("rnn", "cnn"))
    embed_dropout_source: float = hp("dropout of source embeddings", default=0.0, ge=0, le=1, tunable=DROPOUT)
    embed_dropout_target: float = hp("dropout of target embeddings", default=0.0, ge=0, le=1, tunable=DROPOUT)
    encoder_type: str = hp("recurrent or convolutional encoder", default="rnn", choices=("rnn", "cnn"))
    fixed_rate_lr_half_life: int = hp(
        "checkpoints until the learning rate has halved, for `fixed_rate_*`", default=10, gt=0, tunable=Tunable(10, 30)
    )
    learning_rate: float = hp(
        "learning rate at the start", default=0.0003, gt=0, tunable=Tunable(0.00005, 0.2, "Logarithmic")
    )
    loss_type: str = hp("what is minimised", default="cross-entropy", choices=("cross-entropy",))
    lr_scheduler_type: str = hp(
        "how the learning rate falls: at checkpoints without improvement, or as 1/t or 1/sqrt(t)",
        default="plateau_reduce", choices=("plateau_reduce", "fixed_rate_inv_t", "fixed_rate_inv_sqrt_t"),
        tunable=Tunable(values=("plateau_reduce", "fixed_rate_inv_t", "fixed_rate_inv_sqrt_t")),
    )  # fmt: skip
    max_num_batches: int = hp(
        "most batches; -1: no limit", default=-1, ge=-1, check=lambda value: None if value else "positive, or -1"
    )
    max_num_epochs: int | None = hp(
        "passes over the data: when given, training lasts for all of them, improvement or not", default=None, gt=0
    )
    max_seq_len_source: int = hp("tokens of a source sentence, longer ones are cut", default=100, gt=0)
    max_seq_len_target: int = hp("tokens of a target sentence, longer ones are cut", default=100, gt=0)
    min_num_epochs: int = hp("passes before training may end for lack of improvement", default=0, ge=0)
    momentum: float | None = hp(
        "momentum of `sgd`; other optimisers take none", default=None, ge=0, lt=1, tunable=Tunable(0.5, 0.9)
    )
    num_embed_source: int = hp("size of source embeddings", default=512, gt=0, tunable=Tunable(256, 512))
    num_embed_target: int = hp("size of target embeddings", default=512, gt=0, tunable=Tunable(256, 512))
    num_layers_decoder: int = hp("layers of the decoder", default=1, gt=0, tunable=Tunable(1, 10))
    num_layers_encoder: int = hp("layers of the encoder", default=1, gt=0, tunable=Tunable(1, 10))
    optimized_metric: str = hp(
        "metric of the validation data that decides when training ends and the learning rate falls",
        default="perplexity", choices=("perplexity", "accuracy", "bleu"),
    )  # fmt: skip
    optimizer_type: str = hp(
        "optimiser",
        default="adam",
        choices=("adam", "sgd", "rmsprop"),
        tunable=Tunable(values=("adam", "sgd", "rmsprop")),
    )
    plateau_reduce_lr_factor: float = hp(
        "factor of the learning rate, for `plateau_reduce`", default=0.5, gt=0, lt=1, tunable=Tunable(0.1, 0.5)
    )
    plateau_reduce_lr_threshold: int = hp(
        "checkpoints without improvement before the learning rate falls", default=3, gt=0, tunable=Tunable(1, 5)
    )
    rnn_attention_in_upper_layers: bool = hp(
        "upper decoder layers read the attention's context, where there is more than one layer", default=True
    )
    rnn_attention_num_hidden: int | None = hp(
        "hidden units of `mlp` attention; as many as rnn_num_hidden if not given", default=None, gt=0
    )
    rnn_attention_type: str = hp(
        "how attention scores a source position", default="mlp", choices=("dot", "fixed", "mlp", "bilinear")
    )
    rnn_cell_type: str = hp("recurrent cell", default="lstm", choices=("lstm", "gru"))
    rnn_decoder_hidden_dropout: float = hp(
        "dropout of the state that combines context and decoder state", default=0.0, ge=0, le=1, tunable=DROPOUT
    )
    rnn_decoder_state_init: str = hp(
        "the decoder's first state: from the encoder's last, from the mean of its states, or zero",
        default="last", choices=("last", "avg", "zero"),
    )  # fmt: skip
    rnn_first_residual_layer: int = hp(
        "first layer with a residual connection, from 1; layer 1 itself, whose input has another size, gets none",
        default=2, gt=0,
    )  # fmt: skip
    rnn_num_hidden: int = hp(
        "units of a recurrent layer, an even number", default=1024, gt=0, tunable=Tunable(values=SIZES),
        check=lambda value: None if value % 2 == 0 else "even",
    )  # fmt: skip
    rnn_residual_connections: bool = hp("residual connections between recurrent layers", default=False)
    training_metric: str = hp(
        "metric that is told of the training data", default="perplexity", choices=("perplexity", "accuracy")
    )
    weight_decay: float = hp("L2 penalty", default=0.0, ge=0, tunable=Tunable(0, 0.1))
    weight_init_scale: float = hp(
        "width of the first weights: the magnitude of Xavier's, or the bound of uniform ones", default=2.34,
        tunable=Tunable(2.0, 3.0),
    )  # fmt: skip
    weight_init_type: str = hp(
        "how the first weights are drawn",
        default="xavier",
        choices=("uniform", "xavier"),
        tunable=Tunable(values=("xavier", "uniform")),
    )
    xavier_factor_type: str = hp(
        "what Xavier's magnitude is divided by: inputs, outputs, or their mean",
        default="in",
        choices=("in", "out", "avg"),
    )
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 63)

    def check(self) -> None:
        settings = self.settings
        if settings["optimized_metric"] == "bleu" and settings["bleu_sample_size"] == 0:
            raise HyperparameterError(
                "optimized_metric is bleu, but bleu_sample_size is 0: set it to the number of validation sentences to "
                "translate at each checkpoint, or to -1 for all"
            )
        if settings["weight_init_type"] == "xavier" and settings["weight_init_scale"] <= 0:
            raise HyperparameterError(
                f"weight_init_scale is {settings['weight_init_scale']:g}: xavier's magnitude must be positive "
                "(only weight_init_type uniform takes 0 or less)"
            )
        mixed = settings["encoder_type"] == "cnn" and settings["decoder_type"] == "rnn"
        if (
            mixed
            and settings["rnn_attention_type"] == "dot"
            and settings["cnn_num_hidden"] != settings["rnn_num_hidden"]
        ):
            raise HyperparameterError(
                "rnn_attention_type dot needs states of one size, but cnn_num_hidden is "
                f"{settings['cnn_num_hidden']} and rnn_num_hidden {settings['rnn_num_hidden']}"
            )

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module
        from threading import Thread

        Thread(target=import_module, args=("torch",), daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from sentences `X` and their counterparts `y`: texts with tokens between spaces, or lists of tokens.

        X may also be a RecordIO file (str or Path) or a Channel with both sides in it; `vocab` must then be given.

        Args:
            channels: `validation`, likewise, as (X, y), a file or a Channel; needed, since it tells when to stop.
                `vocab`: a folder with vocab.src.json and vocab.trg.json; if not given, the training data's own.

        Raises:
            ValueError: no validation data, or sides of different lengths.
        """
        from sagesmith.algorithms.seq2seq import texts

        if channels.get("validation") is None:
            raise ValueError(
                "fit needs validation=(sentences, counterparts): they tell when training has done its work"
            )
        self.validate()
        given = texts.channels_of(X if y is None else (X, y), **channels)
        self.train(given, run or Run())
        return self

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.nets import Team
        from sagesmith.algorithms.seq2seq.buckets import buckets_of
        from sagesmith.algorithms.seq2seq.network import Network, initialise
        from sagesmith.algorithms.seq2seq.texts import read_vocabularies
        from sagesmith.algorithms.seq2seq.training import Training

        settings = self.settings
        source, target = read_vocabularies(channels["vocab"])
        pairs = {name: self._usable(channels[name], source, target, run) for name in ("train", "validation")}
        ratio = float((pairs["train"].target.lengths / pairs["train"].source.lengths).mean())
        longest = settings["max_seq_len_source"], settings["max_seq_len_target"]
        enabled = settings["bucketing_enabled"]
        buckets = buckets_of(*longest, settings["bucket_width"], ratio) if enabled else [longest]
        run.log(
            "%d pairs to learn from, mean target/source length ratio %.3f, buckets %s",
            len(pairs["train"]),
            ratio,
            buckets,
        )
        if settings["momentum"] is not None and settings["optimizer_type"] != "sgd":
            run.log("Hyperparameter momentum has no effect with optimizer_type %s", settings["optimizer_type"])
        team = Team(run, seed=settings["seed"])
        network = Network(settings, len(source), len(target))
        initialise(network, settings)
        network = team.copied(network)
        run.log("%d weights, on %s", sum(weight.numel() for weight in network.parameters()), team.device)
        Training(network, settings, pairs["train"], pairs["validation"], buckets, team).run()
        self.network_, self.vocabularies_, self.buckets_ = network, (source, target), buckets

    def _usable(self, channel: Channel, source: Vocabulary, target: Vocabulary, run: Run) -> Pairs:
        from sagesmith.algorithms.seq2seq.sentences import read_pairs

        read = read_pairs(channel, source, target)
        usable = read.usable(self.settings["max_seq_len_source"], self.settings["max_seq_len_target"])
        if len(usable) < len(read):
            run.log("Channel %s: %d pairs with an empty side are left out", channel.name, len(read) - len(usable))
        if not len(usable):
            raise ValueError(f"channel {channel.name!r} holds no pairs with tokens on both sides")
        return usable

    # -- asking ------------------------------------------------------------------------------------------------
    def predict(self, X: Any, **options: Any) -> list[str]:
        """The counterparts of sentences (texts, or lists of tokens), as texts."""
        return [" ".join(one) for one, _ in self.translate(X)]

    def translate(self, X: Any, matrix: bool = False) -> list[tuple[list[str], np.ndarray | None]]:
        """The counterparts of sentences as lists of tokens, with their attention (tokens, source tokens) if asked."""
        from sagesmith.algorithms.seq2seq.texts import encoded

        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        source, target = self.vocabularies_
        found = self.infer(encoded(X, source), matrix=matrix)["translation"]
        return [(target.decode(one.ids), one.matrix) for one in found]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """BLEU in 0 to 1, as Sockeye computes it, over the tokens of the counterparts `y`."""
        from sagesmith.algorithms.seq2seq.bleu import corpus_bleu
        from sagesmith.algorithms.seq2seq.texts import tokenised

        if sample_weight is not None:
            raise ValueError("sentences have no weights")
        return corpus_bleu([tokens for tokens, _ in self.translate(X)], tokenised(y))

    def infer(self, batch: Any, **options: Any) -> Mapping[str, list[Translation]]:
        """Of Sentences: `translation`, one each; an empty sentence gives an empty one. `matrix`: with attention."""
        from sagesmith.algorithms.seq2seq.beam import Translation, limits_of, translate

        sentences: Sentences = batch.cut(self.settings["max_seq_len_source"])
        asked = np.flatnonzero(sentences.lengths)
        given = sentences.rows(asked)
        limits = limits_of(given.lengths, self.buckets_)
        matrix = bool(options.get("matrix"))
        made = translate(self.network_, given, limits, self.settings["beam_size"], DECODED_TOGETHER, matrix)
        empty = Translation([], np.zeros((0, 0), np.float32) if matrix else None, 0.0)
        found = [empty] * len(sentences)
        for number, one in zip(asked, made, strict=True):
            found[number] = one
        return {"translation": found}

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.seq2seq.requests import respond

        return respond(self, request)

    # -- the artifact ------------------------------------------------------------------------------------------
    def arrays(self) -> Mapping[str, np.ndarray]:
        from sagesmith.algorithms.nets import weights_of

        return weights_of(self.network_)

    def facts(self) -> Mapping[str, Any]:
        return {"buckets": self.buckets_}

    def save(self, folder: Path) -> None:
        from sagesmith.algorithms.seq2seq.vocabulary import SOURCE, TARGET

        super().save(folder)
        for vocabulary, name in zip(self.vocabularies_, (SOURCE, TARGET), strict=True):
            vocabulary.write(folder / name)

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.nets import serving_device, take_weights
        from sagesmith.algorithms.seq2seq.network import Network

        self.buckets_ = [(int(source), int(target)) for source, target in facts["buckets"]]
        network = Network(self.settings, len(arrays["encoder.embedding.weight"]), len(arrays["output.bias"]))
        take_weights(network, arrays)
        self.network_ = network.to(serving_device())

    @classmethod
    def load(cls, folder: Path) -> Self:
        from sagesmith.algorithms.seq2seq.texts import read_folder

        model = super().load(folder)
        words = model.network_.encoder.embedding.num_embeddings, model.network_.embedding.num_embeddings
        model.vocabularies_ = read_folder(folder)
        for vocabulary, size in zip(model.vocabularies_, words, strict=True):
            if len(vocabulary) != size:
                raise ValueError(f"{folder}: a vocabulary of {len(vocabulary)} tokens, but the model knows {size}")
        return model
