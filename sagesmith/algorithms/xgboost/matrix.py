"""From channels to rows for xgboost: which files may be read, what the columns mean, and clear errors where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.base import ChannelSpec
from sagesmith.formats.batch import Batch, DataError

if TYPE_CHECKING:
    import xgboost

    from sagesmith.formats.channel import Channel

CSV = ("csv", "text/csv")
LIBSVM = ("libsvm", "text/libsvm", "text/x-libsvm")
PARQUET = ("parquet", "application/x-parquet")
RECORDIO = ("recordio-protobuf", "application/x-recordio-protobuf")
CONTENT_TYPES = (*CSV, *LIBSVM, *PARQUET, *RECORDIO)


def check_channels(channels: Mapping[str, Channel], known: tuple[ChannelSpec, ...]) -> None:
    """Refuses channels that the algorithm does not know, missing ones, and content types that it cannot read.

    Raises:
        DataError: in the container's words.
    """
    names = [spec.name for spec in known]
    for name in channels:
        if name not in names:
            raise DataError(f"Extraneous channel found: {name}; there are: {', '.join(names)}")
    for spec in known:
        if spec.required and spec.name not in channels:
            raise DataError(f"Missing required channel: {spec.name}")
    for name, channel in channels.items():
        kind, options = media_type(channel.content_type)
        if name in ("train", "validation") and kind and kind not in (*CONTENT_TYPES, "arrays"):
            raise DataError(f"Channel {name}: content type {kind} is not in [{', '.join(CONTENT_TYPES)}]")
        if options.get("label_size", "1") != "1":
            raise DataError(f"Channel {name}: label_size {options['label_size']} is not 1; XGBoost takes one label column")


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """`("text/csv", {"label_size": "1"})` of `text/csv; label_size=1`."""
    kind, *parameters = (part.strip() for part in (content_type or "").split(";"))
    pairs = (parameter.partition("=") for parameter in parameters if parameter)
    return kind.lower(), {key.strip().lower(): value.strip() for key, _, value in pairs}


def read(channel: Channel, settings: Mapping[str, Any]) -> Batch | None:
    """All rows of a channel, or None when it holds none.

    Raises:
        DataError: hidden files, unreadable rows, rows without labels.
    """
    kind, _ = media_type(channel.content_type)
    _refuse_hidden(channel)
    batch = channel.read()
    if len(batch) == 0:
        return None
    if batch.label is None:
        raise DataError(f"Got input data without labels. Please check the input data of channel {channel.name}")
    if batch.label.ndim > 1 and batch.label.shape[1] == 1:
        batch = replace(batch, label=batch.label[:, 0])
    if settings["csv_weights"] and kind in CSV:
        batch = _with_csv_weights(batch, channel.name)
    if not np.isfinite(batch.label).all():
        row = int(np.flatnonzero(~np.isfinite(batch.label))[0])
        raise DataError(f"Channel {channel.name}: the label of row {row + 1} is missing or infinite")
    if batch.width == 0:
        raise DataError(f"Channel {channel.name}: there are labels but no feature columns")
    return batch


def _with_csv_weights(batch: Batch, name: str) -> Batch:
    if batch.width < 2:
        raise DataError(f"Channel {name}: csv_weights=1 needs a label, a weight and at least one feature column")
    weight = np.ascontiguousarray(batch.features[:, 0])
    if not np.isfinite(weight).all() or (weight < 0).any():
        row = int(np.flatnonzero(~np.isfinite(weight) | (weight < 0))[0])
        raise DataError(f"Channel {name}: the weight of row {row + 1} is {weight[row]}, expected a number not below 0")
    return replace(batch, features=batch.features[:, 1:], weight=weight)


def _refuse_hidden(channel: Channel) -> None:
    folder = getattr(channel, "folder", None)
    if folder is None:
        return
    hidden = sorted(path for path in folder.rglob("*") if path.name.startswith(".") and path.is_file())
    if hidden:
        raise DataError(f"Hidden file found in the data path! Remove that before training. ({hidden[0]})")


def same_files(train: Channel, validation: Channel) -> list[str]:
    """Names of files that occur in both channels with the same size: probably the same data."""
    sizes = []
    for channel in (train, validation):
        folder = getattr(channel, "folder", None)
        files = [] if folder is None else [path for path in folder.rglob("*") if path.is_file()]
        sizes.append({(path.name, path.stat().st_size) for path in files})
    return sorted(name for name, _ in sizes[0] & sizes[1])


def check_labels(label: np.ndarray, objective: str, classes: int | None, name: str) -> None:
    """Refuses labels that the objective cannot mean, before xgboost says it less clearly.

    Raises:
        DataError: naming the label and the allowed range.
    """
    if objective.startswith("multi:"):
        allowed, wrong = f"an integer in [0, {classes})", (label < 0) | (label >= (classes or 0)) | (label % 1 != 0)
    elif objective in ("binary:logistic", "binary:logitraw", "reg:logistic"):
        allowed, wrong = "in [0, 1]", (label < 0) | (label > 1)
    elif objective == "binary:hinge":
        allowed, wrong = "0 or 1", (label != 0) & (label != 1)
    elif objective in ("count:poisson", "reg:tweedie"):
        allowed, wrong = "not negative", label < 0
    elif objective == "reg:gamma":
        allowed, wrong = "positive", label <= 0
    elif objective == "reg:squaredlogerror":
        allowed, wrong = "greater than -1", label <= -1
    else:
        return
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(f"Channel {name}: label {label[row]:g} of row {row + 1} is not {allowed}, which {objective} needs")


def matrix(batch: Batch, objective: str, threads: int) -> xgboost.DMatrix:
    """A DMatrix over the rows; absent entries of sparse rows and NaN are missing values."""
    import xgboost

    data = xgboost.DMatrix(batch.features, label=batch.label, weight=batch.weight, nthread=threads)
    if batch.group is not None:
        _set_groups(data, batch)
    if objective == "survival:aft":  # one label column: every time of an event is known, none is censored
        data.set_float_info("label_lower_bound", batch.label)
        data.set_float_info("label_upper_bound", batch.label)
    return data


def _set_groups(data: xgboost.DMatrix, batch: Batch) -> None:
    """Query ids; with weights, xgboost wants one per query: the mean of its rows'."""
    assert batch.group is not None
    starts = np.flatnonzero(np.r_[True, batch.group[1:] != batch.group[:-1]])
    if len(np.unique(batch.group)) != len(starts):
        raise DataError("rows of one query (qid) must stand side by side")
    sizes = np.diff(np.r_[starts, len(batch)])
    if batch.weight is not None:
        data.set_weight([])
        data.set_group(sizes)
        data.set_weight(np.add.reduceat(batch.weight, starts) / sizes)
    else:
        data.set_group(sizes)
