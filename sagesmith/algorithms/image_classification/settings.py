"""settings: what hyperparameters mean together, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.algorithms.backbones.depths import LARGE, SMALL, SMALL_PIXELS
from sagesmith.algorithms.hyperparameters import HyperparameterError

PRETRAINED_SHAPE = (3, 224, 224)  # what published weights were trained on
WARM_UP = {110: 400}  # updates over which the rate rises, by depth: He et al. 2015, section 4.2
OPTIMIZERS = ("sgd", "adam", "rmsprop", "nag")
_READERS = {"momentum": ("sgd", "nag"), "weight_decay": ("sgd", "nag"), "beta_1": ("adam",), "beta_2": ("adam",)}
_READERS |= {"eps": ("adam", "rmsprop"), "gamma": ("rmsprop",)}


def shape_of(text: str) -> tuple[int, int, int]:
    """Channels, height and width.

    Raises:
        ValueError: not of that form.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(text)
    channels, height, width = map(int, parts)
    if channels not in (1, 3):
        raise ValueError(text)
    return channels, height, width


def wrong_shape(text: str) -> str | None:
    """What is allowed, if this is not a shape."""
    try:
        shape_of(text)
    except ValueError:
        return "channels,height,width: three whole numbers above 0, the first 3 (colours) or 1 (grey)"
    return None


def steps_of(text: str | None) -> tuple[int, ...]:
    """The epochs of lr_scheduler_step; none of None.

    Raises:
        ValueError: not of that form.
    """
    if text is None or not text.strip():
        return ()
    steps = tuple(int(part) for part in text.split(","))
    if min(steps) < 1 or list(steps) != sorted(set(steps)):
        raise ValueError(text)
    return steps


def wrong_steps(text: str) -> str | None:
    """What is allowed, if these are no steps."""
    try:
        steps_of(text)
    except ValueError:
        return "epochs with commas between them, rising, such as 10,20"
    return None


def is_small(shape: tuple[int, int, int]) -> bool:
    """Whether pictures of this shape go through a network without the stem that divides them by four."""
    return max(shape[1:]) <= SMALL_PIXELS


def check(settings: Mapping[str, Any]) -> None:
    """
    Raises:
        HyperparameterError: values that do not go together.
    """
    shape, depth = shape_of(settings["image_shape"]), settings["num_layers"]
    if depth in SMALL and not is_small(shape):
        raise HyperparameterError(
            f"Hyperparameter num_layers: {depth} is for pictures of up to {SMALL_PIXELS} x {SMALL_PIXELS}; with "
            f"image_shape {settings['image_shape']} it is one of {', '.join(map(str, LARGE))}"
        )
    if settings["use_pretrained_model"]:
        if depth not in LARGE:
            raise HyperparameterError(
                f"Hyperparameter num_layers: with use_pretrained_model=1 it is one of {', '.join(map(str, LARGE))}, "
                f"found {depth}"
            )
        if shape != PRETRAINED_SHAPE:
            raise HyperparameterError(
                "Hyperparameter image_shape: with use_pretrained_model=1 it is 3,224,224, found "
                f"{settings['image_shape']}"
            )
    if settings["resize"] is not None and settings["resize"] < max(shape[1:]):
        raise HyperparameterError(
            f"Hyperparameter resize: {settings['resize']} is less than a side of image_shape {settings['image_shape']}"
        )
    _check_numbers(settings)


def _check_numbers(settings: Mapping[str, Any]) -> None:
    frequency, top_k, classes = settings["checkpoint_frequency"], settings["top_k"], settings["num_classes"]
    if frequency is not None and frequency > settings["epochs"]:
        raise HyperparameterError(
            f"Hyperparameter checkpoint_frequency: {frequency} is more than epochs, {settings['epochs']}"
        )
    if top_k is not None and settings["multi_label"]:
        raise HyperparameterError(
            "Hyperparameter top_k: it counts classes of pictures with one label; multi_label is 1"
        )
    if top_k is not None and classes is not None and top_k > classes:
        raise HyperparameterError(f"Hyperparameter top_k: {top_k} is more than num_classes, {classes}")


def remarks(settings: Mapping[str, Any], changed: Mapping[str, Any], hosts: int) -> list[str]:
    """What a user should know of values that have no effect, or another than he may think; for the log.

    Args:
        changed: the hyperparameters that are not their defaults.
    """
    chosen = settings["optimizer"]
    said = [
        f"{name} has no effect: it is read by {' and '.join(readers)}, and optimizer is {chosen}"
        for name, readers in _READERS.items()
        if name in changed and chosen not in readers
    ]
    if settings["use_weighted_loss"] and not settings["multi_label"]:
        said.append("use_weighted_loss has no effect: it is for multi_label=1")
    if "model_prefix" in changed:
        said.append("model_prefix has no effect: files are named image-classification")
    if not settings["early_stopping"]:
        said += [
            f"{name} has no effect without early_stopping" for name in changed if name.startswith("early_stopping_")
        ]
    if "lr_scheduler_factor" in changed and not steps_of(settings["lr_scheduler_step"]):
        said.append("lr_scheduler_factor has no effect without lr_scheduler_step")
    if hosts == 1 and settings["kv_store"] is not None:
        said.append("kv_store has no effect on one host")
    if hosts > 1 and settings["kv_store"] != "dist_sync":
        said.append(f"kv_store is {settings['kv_store']}: hosts step together all the same, as with dist_sync")
    return said
