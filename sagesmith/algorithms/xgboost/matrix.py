"""From channels to rows for xgboost: which files may be read, what columns mean, clear errors where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.base import ChannelSpec
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost.gathering import gather
from sagesmith.formats.batch import Batch
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.source import Source
from sagesmith.formats.tabular import sniff_delimiter

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
        if name in ("train", "validation") and kind and kind not in CONTENT_TYPES:
            raise DataError(f"Channel {name}: content type {kind} is not in [{', '.join(CONTENT_TYPES)}]")
        if options.get("label_size", "1") != "1":
            raise DataError(
                f"Channel {name}: label_size {options['label_size']} is not 1; XGBoost takes one label column"
            )


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """`("text/csv", {"label_size": "1"})` of `text/csv; label_size=1`."""
    kind, *parameters = (part.strip() for part in (content_type or "").split(";"))
    pairs = (parameter.partition("=") for parameter in parameters if parameter)
    return kind.lower(), {key.strip().lower(): value.strip() for key, _, value in pairs}


def read(channel: Channel, settings: Mapping[str, Any], run: Run) -> Batch | None:
    """All rows of a channel, or None when it holds none.

    Raises:
        DataError: hidden files, unreadable rows, rows without labels.
    """
    _refuse_hidden(channel)
    if media_type(channel.content_type)[0] in CSV:
        channel.options = replace(channel.options, delimiter="auto", weighted=bool(settings["csv_weights"]))
        _announce_delimiter(channel, run)
    try:
        batch = gather(channel.batches())
    except NoData:
        return None
    if batch is None or len(batch) == 0:
        return None
    if batch.label is None:
        raise DataError(f"Got input data without labels. Please check the input data of channel {channel.name}")
    if batch.label.ndim > 1:
        raise DataError(f"Channel {channel.name}: {batch.label.shape[1]} label columns; XGBoost takes one")
    for what, values in (("label", batch.label), ("weight", batch.weight)):
        wrong = None if values is None else ~np.isfinite(values) | (values < 0 if what == "weight" else False)
        if values is not None and wrong is not None and wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"Channel {channel.name}: the {what} of row {row + 1} is {values[row]:g}, expected a number"
            )
    if batch.weight is not None and not batch.weight.any():
        raise DataError(f"Channel {channel.name}: the weights of all rows are zero")
    if batch.width == 0:
        raise DataError(f"Channel {channel.name}: there are labels but no feature columns")
    return batch


def _announce_delimiter(channel: Channel, run: Run) -> None:
    visible = [path for path in _files(channel) if not path.name.startswith((".", "_"))]
    if not visible:
        return
    with Source.of_file(visible[0]).open() as stream:
        delimiter = sniff_delimiter(stream.readline())
    run.log("Determined delimiter of CSV input is %r", delimiter)


def _files(channel: Channel) -> list[Path]:
    return [] if channel.folder is None else channel.files()


def _refuse_hidden(channel: Channel) -> None:
    hidden = [path for path in _files(channel) if path.name.startswith(".")]
    if hidden:
        raise DataError(f"Hidden file found in the data path! Remove that before training. ({hidden[0]})")


def same_files(train: Channel, validation: Channel) -> list[str]:
    """Names of files that occur in both channels with the same size: probably the same data."""
    sizes = [{(path.name, path.stat().st_size) for path in _files(channel)} for channel in (train, validation)]
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
        raise DataError(
            f"Channel {name}: label {label[row]:g} of row {row + 1} is not {allowed}, which {objective} needs"
        )


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
