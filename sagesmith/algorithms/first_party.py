"""first_party: what SageMaker's own tabular algorithms have in common, and XGBoost, a framework's image, has not.

Content types, the metrics of every job, checked passes over a channel, test scores in the log, and the artifact:
`model_algo-1` with the arrays (npz, never a pickle) beside `model.json` with the hyperparameters. SageMaker's own
`model_algo-1` is a file of MXNet, which nobody maintains; the names of file and arrays are kept.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from sagesmith.algorithms.base import Algorithm, Metric
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.numbers import all_finite

CSV, RECORDIO = "text/csv", "application/x-recordio-protobuf"
ROWS = (RECORDIO, CSV)  # content types of training data; the first is the default
REQUESTS = (CSV, "application/json", "application/jsonlines", RECORDIO)
ANSWERS = ("application/json", "application/jsonlines", RECORDIO)
VERSION = 1  # of model.json and the arrays beside it
ARRAYS, DOCUMENT = "model_algo-1", "model.json"

JOB_METRICS = (
    Metric("train:progress", r"#progress_metric: host=\S+, completed (\S+) %"),
    Metric("train:throughput", r"#throughput_metric: host=\S+, train throughput=(\S+) records/second"),
)


class FirstParty(Algorithm):
    """An algorithm over rows of finite numbers whose artifact is arrays and settings.

    A subclass says which arrays make its model (`arrays`) and takes them back (`restore`).
    """

    accepts: ClassVar[tuple[str, ...]] = REQUESTS
    returns: ClassVar[tuple[str, ...]] = ANSWERS
    artifact: ClassVar[tuple[str, str]] = (ARRAYS, DOCUMENT)  # the files of arrays and of settings

    def arrays(self) -> Mapping[str, np.ndarray]:
        """The model as named arrays of numbers."""
        raise NotImplementedError

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Sets what `train` learnt. A missing array or one of the wrong shape may raise KeyError or ValueError."""
        raise NotImplementedError

    def facts(self) -> Mapping[str, Any]:
        """What the model is besides arrays and hyperparameters, as JSON."""
        return {}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        numbers, document_name = self.artifact
        with (folder / numbers).open("wb") as file:
            arrays: Any = self.arrays()
            np.savez(file, **arrays)
        document = {"algorithm": self.name, "version": VERSION}
        document |= {"hyperparameters": dict(self.settings), **self.facts()}
        (folder / document_name).write_text(json.dumps(document, indent=1), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        numbers, path = folder / cls.artifact[0], folder / cls.artifact[1]
        try:
            document = json.loads(path.read_text("utf-8"))
            if (document["algorithm"], document["version"]) != (cls.name, VERSION):
                raise ValueError(f"it holds {document['algorithm']!r}, version {document['version']!r}")
            model = cls(**document["hyperparameters"])
            model.validate()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} describes no {cls.name} model of version {VERSION}: {error}") from None
        try:
            model.restore(read_arrays(numbers), document)
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{numbers} is no {cls.name} model: {error}") from None
        return model


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of numbers in an npz file by name; raises ValueError (or zipfile.BadZipFile, EOFError) for others."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not an npz archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(f"array {name!r} holds no numbers")
    return arrays


def passes(channel: Channel, rows: int | None = None, width: int | None = None) -> Iterator[Batch]:
    """One pass over a channel of finite numbers, in batches of `rows` (None: as suits the format).

    Arrays that a Python caller gave are checked already and not looked at again.

    Raises:
        DataError: rows that are not `width` columns wide (feature_dim), or NaN or infinity among the features, naming
            channel, row and column, from 0.
    """
    seen = 0
    for batch in channel.batches(rows):
        check_width(batch, width, f"channel {channel.name!r} has rows")
        if not channel.is_arrays:
            check_finite(batch, f"channel {channel.name!r}", seen)
        yield batch
        seen += len(batch)


def check_width(batch: Batch, width: int | None, where: str) -> None:
    """Raises DataError for rows that are not `width` columns wide; None lets any width pass."""
    if width is not None and batch.width != width:
        raise DataError(f"{where} of {batch.width} columns, but feature_dim is {width}")


def check_finite(batch: Batch, where: str, before: int = 0) -> None:
    """Raises DataError for NaN or infinity among the features; rows are counted from `before`."""
    features: Any = batch.features
    values = features.data if batch.is_sparse else features
    if all_finite(values):
        return
    bad = np.argwhere(~np.isfinite(values))
    at = tuple(int(index) for index in bad[0])
    row, column = at if len(at) == 2 else _place(features, at[0])
    raise DataError(f"{where}: row {before + row}, column {column} is {values[at]}; only finite numbers can be used")


def _place(features: Any, at: int) -> tuple[int, int]:
    """Row and column of the entry `at` of a CSR matrix."""
    return int(np.searchsorted(features.indptr, at, "right")) - 1, int(features.indices[at])


def check_labels(batch: Batch, where: str, allowed: Collection[float] | None = None, before: int = 0) -> np.ndarray:
    """The labels, (n,) float32; raises DataError for none, NaN, infinity, or one that is not among `allowed`."""
    if batch.label is None:
        raise DataError(f"{where} has no labels: the first column of CSV, or `label` of a record, must be the label")
    label = np.asarray(batch.label, np.float32).reshape(len(batch), -1)
    if label.shape[1] != 1:
        raise DataError(f"{where} has {label.shape[1]} labels for a row, only one can be used")
    label = label[:, 0]
    wrong = ~np.isfinite(label) if allowed is None else ~np.isin(label, np.asarray(list(allowed), np.float32))
    if wrong.any():
        row = int(np.argmax(wrong))
        wanted = "a finite number" if allowed is None else f"one of {', '.join(f'{value:g}' for value in allowed)}"
        raise DataError(f"{where}: the label of row {before + row} is {label[row]:g}, it must be {wanted}")
    return label


def report_scores(run: Run, channel: str, scores: Iterable[tuple[str, float, str]]) -> None:
    """The block of lines at the end of a job: `#test_score (algo-1) : ('mse', 1.5)`, then `#quality_metric` lines.

    `scores` are (name, value, "loss" or "score").
    """
    listed = list(scores)
    for name, value, _ in listed:
        run.metric_line(f"#{channel}_score ({run.host}) : ({name!r}, {value!r})")
    for name, value, kind in listed:
        run.quality(f"{channel} {name}", value, kind)
