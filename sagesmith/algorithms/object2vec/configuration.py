"""configuration: what the hyperparameters say about each encoder, and which of them do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sagesmith.algorithms.base import HyperparameterError

AUTO_LAYERS = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 1}
COMPARATORS = ("hadamard", "concat", "abs_diff")
SPARSE = "row_sparse"  # the token_embedding_storage_type whose optimisers move only the rows of a batch
SPARSE_OPTIMIZERS = ("adam", "adagrad", "sgd")
OWN = (
    "max_seq_len", "vocab_size", "cnn_filter_width", "layers", "token_embedding_dim", "pretrained_embedding_file",
    "vocab_file", "freeze_pretrained_embedding",
)  # fmt: skip


@dataclass(frozen=True)
class Encoder:
    """One encoder's settings, all of them decided."""

    network: str
    max_seq_len: int
    vocab_size: int
    cnn_filter_width: int
    layers: int
    token_embedding_dim: int
    pretrained_embedding_file: str
    vocab_file: str
    freeze_pretrained_embedding: bool
    enc_dim: int
    dropout: float

    @property
    def pretrained(self) -> bool:
        return bool(self.pretrained_embedding_file)

    def described(self) -> dict[str, Any]:
        return asdict(self)


def encoders_of(settings: Mapping[str, Any]) -> tuple[Encoder, Encoder]:
    """The two encoders; with enc1_network=enc0 the second has the settings, not the weights, of the first."""
    first = _encoder(settings, "enc0", settings["enc0_network"])
    if settings["enc1_network"] == "enc0":
        return first, first
    return first, _encoder(settings, "enc1", settings["enc1_network"])


def _encoder(settings: Mapping[str, Any], side: str, network: str) -> Encoder:
    own = {name: settings[f"{side}_{name}"] for name in OWN}
    own["layers"] = AUTO_LAYERS[network] if own["layers"] == "auto" else own["layers"]
    if network == "pooled_embedding":
        own["token_embedding_dim"] = settings["enc_dim"]
    return Encoder(network=network, enc_dim=settings["enc_dim"], dropout=settings["dropout"], **own)


def is_lazy(settings: Mapping[str, Any]) -> bool:
    """Whether tables of tokens learn row by row."""
    return bool(settings["token_embedding_storage_type"] == SPARSE)


def comparators_of(text: str) -> tuple[str, ...]:
    """The comparators in the order of the list."""
    return tuple(part.strip() for part in text.split(","))


def wrong_comparators(text: str) -> str | None:
    """What is allowed, if a comparator_list is not: a `check` of hp()."""
    listed = comparators_of(text)
    if not set(listed) <= set(COMPARATORS) or len(set(listed)) < len(listed):
        return f"a comma-separated list of different ones of {', '.join(COMPARATORS)}"
    return None


def check(settings: Mapping[str, Any]) -> None:
    """
    Raises:
        HyperparameterError: hyperparameters that do not go together.
    """
    if settings["enc1_network"] != "enc0":
        for name in ("enc1_max_seq_len", "enc1_vocab_size"):
            if settings[name] is None:
                raise HyperparameterError(
                    f"Missing required hyperparameter: {name} (it may be left out only with enc1_network=enc0)"
                )
    encoders = encoders_of(settings)
    for side, encoder in zip(("enc0", "enc1"), encoders, strict=True):
        if encoder.pretrained and not encoder.vocab_file:
            raise HyperparameterError(
                f"{side}_pretrained_embedding_file needs {side}_vocab_file, which says the id of each token"
            )
    if settings["tied_token_embedding_weight"]:
        _check_tied(*encoders)
    chosen = settings["optimizer"]
    if is_lazy(settings) and chosen not in SPARSE_OPTIMIZERS:
        raise HyperparameterError(
            f"token_embedding_storage_type row_sparse goes with optimizer {', '.join(SPARSE_OPTIMIZERS)}; "
            f"found {chosen}"
        )


def _check_tied(first: Encoder, second: Encoder) -> None:
    names = ["vocab_size", "token_embedding_dim", "pretrained_embedding_file", "vocab_file"]
    for name in names + ["freeze_pretrained_embedding"] * first.pretrained:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            raise HyperparameterError(
                "tied_token_embedding_weight needs one table of tokens, but "
                f"enc0_{name} is {one} and enc1_{name} {other}"
            )


def remarks(settings: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Lines for the log about settings that are changed or have no effect.

    Args:
        given: the hyperparameters that are not their defaults.
    """
    lines = []
    sides = ("enc0",) if settings["enc1_network"] == "enc0" else ("enc0", "enc1")
    for side in sides:
        dim = settings[f"{side}_token_embedding_dim"]
        if settings[f"{side}_network"] == "pooled_embedding" and dim != settings["enc_dim"]:
            lines.append(
                "Inconsistent enc_dim and token_embedding_dim found for token-embedding-encoder: "
                f"{settings['enc_dim']} vs {dim}. Setting token embedding dim to be {settings['enc_dim']}"
            )
        for name, needed in (("cnn_filter_width", ("hcnn",)), ("layers", ("hcnn", "bilstm"))):
            if f"{side}_{name}" in given and settings[f"{side}_network"] not in needed:
                lines.append(f"{side}_{name} has no effect with {side}_network {settings[f'{side}_network']}")
        if f"{side}_freeze_pretrained_embedding" in given and not settings[f"{side}_pretrained_embedding_file"]:
            lines.append(f"{side}_freeze_pretrained_embedding has no effect without {side}_pretrained_embedding_file")
        if settings[f"{side}_vocab_file"] and not settings[f"{side}_pretrained_embedding_file"]:
            lines.append(f"{side}_vocab_file has no effect without {side}_pretrained_embedding_file")
    if settings["enc1_network"] == "enc0":
        unused = [f"enc1_{name}" for name in OWN if f"enc1_{name}" in given]
        if unused:
            lines.append(f"enc1_network is enc0: encoder 1 takes encoder 0's settings, {', '.join(unused)} ignored")
    if is_lazy(settings) and settings["bucket_width"]:
        lines.append("token_embedding_storage_type is row_sparse: bucketing is switched off, bucket_width ignored")
    if "feature_dim" in given:
        lines.append("Hyperparameter feature_dim is taken for compatibility and has no effect")
    if not settings["mlp_layers"]:
        unused = [name for name in ("mlp_activation", "mlp_dim") if name in given]
        lines += [f"{name} has no effect with mlp_layers 0" for name in unused]
    if settings["output_layer"] != "softmax" and "num_classes" in given:
        lines.append(f"num_classes has no effect with output_layer {settings['output_layer']}")
    return lines
