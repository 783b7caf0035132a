"""Preparing: a training channel becomes this host's packed series, with what all hosts must agree on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.algorithms.deepar.frequency import Frequency
from sagesmith.algorithms.deepar.series import Packed, Packer, records_of
from sagesmith.algorithms.run import Run
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError

FEWEST = 300  # observations of all training series together


@dataclass(frozen=True)
class Prepared:
    """Attributes:
    packed: this host's series that are long enough.
    everywhere: how many there are on all hosts.
    cards: categories of each `cat`.
    scale: mean over the series of their mean absolute value.
    centre, spread: (F,) of the dynamic features.
    """

    packed: Packed
    everywhere: int
    cards: list[int]
    scale: float
    centre: np.ndarray
    spread: np.ndarray


def packer_of(settings: Mapping[str, Any], known: tuple[Sequence[int], int] | None = None, ahead: int = 0) -> Packer:
    """A packer for records as the hyperparameters want them; `known`: a model's categories and its `dynamic_feat`."""
    cats, features = settings["cardinality"], settings["num_dynamic_feat"]
    ignored = {field for field, value in (("cat", cats), ("dynamic_feat", features)) if value in ("ignore", "")}
    told = cats if isinstance(cats, list) else None, features if isinstance(features, int) else None
    cards, wanted = known or told
    return Packer(Frequency.parse(settings["time_freq"]), cards, wanted, ahead, ignored, settings["likelihood"])


def prepare(channel: Channel, settings: Mapping[str, Any], run: Run) -> Prepared:
    """Reads, checks and shares out the training series.

    Raises:
        DataError: naming file, record and field; or too few observations.
    """
    horizon = settings["prediction_length"]
    packer = packer_of(settings)
    for record, place in records_of(channel):
        packer.take(record, place)
    whole = packer.packed()
    if packer.between:
        frequency = settings["time_freq"]
        run.log(
            "%d series begin between two times of time_freq %s; their starts are cut off", packer.between, frequency
        )
    mine = _share(whole, run)
    packed = mine.some(np.flatnonzero(mine.lengths >= horizon))
    if short := len(mine) - len(packed):
        run.log("%d series have fewer than prediction_length %d values and are ignored", short, horizon)
    facts = _met(_facts(packed), run)
    _report(facts, run)
    if facts["observations"] < FEWEST:
        raise DataError(
            f"the train channel holds {facts['observations']} observations in series of at least prediction_length "
            f"{horizon} values; DeepAR needs {FEWEST}"
        )
    cards = _cardinality(facts, settings, run)
    if settings["num_dynamic_feat"] == "auto":
        run.log("[num_dynamic_feat=auto] Inferred value of num_dynamic_feat=%d from dataset.", len(facts["sums"]))
    rows = max(1, facts["feature_rows"])
    centre = np.array(facts["sums"], float) / rows
    spread = np.sqrt(np.maximum(np.array(facts["squares"], float) / rows - centre**2, 0))
    spread = np.where(spread > 1e-6 * np.maximum(1, np.abs(centre)), spread, 1.0)
    scale = facts["scales"] / max(1, facts["told"]) or 1.0
    arrays = (centre.astype(np.float32), spread.astype(np.float32))
    return Prepared(packed, facts["series"], cards, scale, *arrays)


def _share(packed: Packed, run: Run) -> Packed:
    """This host's part: its shard, or, where every host was given the same, every n-th series."""
    if len(run.hosts) == 1:
        return packed
    digest = hashlib.sha256(packed.values.tobytes() + packed.offsets.tobytes() + packed.ordinals.tobytes()).digest()
    if len(set(run.gather(digest))) > 1:
        return packed
    return packed.some(np.arange(len(packed))[run.rank :: len(run.hosts)])


def _facts(packed: Packed) -> dict[str, Any]:
    """What this host knows; `_met` adds up all hosts'."""
    values = packed.values[np.isfinite(packed.values)].astype(np.float64)
    seen = np.isfinite(packed.values)
    sizes = np.abs(np.where(seen, packed.values, 0)).astype(np.float64)
    counts, totals = (np.add.reduceat(x, packed.offsets[:-1]) if len(packed) else np.zeros(0) for x in (seen, sizes))
    told = totals > 0
    features = packed.features.astype(np.float64)
    return {
        "series": len(packed),
        "observations": len(values),
        "values": len(packed.values),
        "low": float(values.min()) if len(values) else None,
        "high": float(values.max()) if len(values) else None,
        "total": float(values.sum()),
        "size": float(np.abs(values).sum()),
        "whole": bool((values == np.floor(values)).all()),
        "scales": float((totals[told] / counts[told]).sum()),
        "told": int(told.sum()),
        "cards": [int(column.max()) + 1 for column in packed.cats.T] if len(packed) else None,
        "feature_rows": len(features),
        "sums": features.sum(axis=0).tolist() if len(packed) else None,
        "squares": (features**2).sum(axis=0).tolist() if len(packed) else None,
    }


def _met(own: dict[str, Any], run: Run) -> dict[str, Any]:
    """The facts of all hosts as one.

    Raises:
        DataError: hosts whose series have another number of categories or features.
    """
    parts = [json.loads(part) for part in run.gather(json.dumps(own).encode())]
    filled = [part for part in parts if part["series"]]
    if not filled:
        return {**parts[0], "cards": [], "sums": [], "squares": [], "low": 0.0, "high": 0.0}
    for field, name in (("cards", "cat"), ("sums", "dynamic_feat")):
        if len({len(part[field]) for part in filled}) > 1:
            raise DataError(f"the hosts' series differ in their number of {name!r}: every series must have as many")
    added = ("series", "observations", "values", "total", "size", "scales", "told", "feature_rows")
    facts: dict[str, Any] = {key: sum(part[key] for part in filled) for key in added}
    lows, highs = ([part[key] for part in filled if part[key] is not None] for key in ("low", "high"))
    facts |= {"low": min(lows, default=0.0), "high": max(highs, default=0.0)}
    facts["whole"] = all(part["whole"] for part in filled)
    facts["cards"] = [max(column) for column in zip(*(part["cards"] for part in filled), strict=True)]
    for key in ("sums", "squares"):
        facts[key] = [sum(column) for column in zip(*(part[key] for part in filled), strict=True)]
    return facts


def _cardinality(facts: Mapping[str, Any], settings: Mapping[str, Any], run: Run) -> list[int]:
    given, found = settings["cardinality"], list(facts["cards"])
    if given == "auto":
        run.log("[cardinality=auto] Inferred value of cardinality=%s from dataset.", found)
        return found
    return given if isinstance(given, list) else []


def _report(facts: Mapping[str, Any], run: Run) -> None:
    count = max(1, facts["observations"])
    run.log("Training set statistics:")
    run.log("Integer time series" if facts["whole"] else "Real time series")
    run.log("number of time series: %d", facts["series"])
    run.log("number of observations: %d", facts["observations"])
    run.log("mean target length: %s", facts["values"] / max(1, facts["series"]))
    run.log("min/mean/max target: %s/%s/%s", facts["low"], facts["total"] / count, facts["high"])
    run.log("mean abs(target): %s", facts["size"] / count)
    run.log("contains missing values: %s", "yes" if facts["observations"] < facts["values"] else "no")
