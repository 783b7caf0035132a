"""Channel: one named input of a training job, as files, a pipe or arrays; read in batches of bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from sagesmith.formats.arrays import batch_of
from sagesmith.formats.batch import Batch, join, rechunk
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Format, Options, format_of
from sagesmith.formats.frames import frames
from sagesmith.formats.pipe import Pipe
from sagesmith.formats.source import Source


class Channel:
    """Made by `of`, `from_folder`, `from_files` or `from_pipe`. Every method that reads makes a pass of its own.

    Files are unpacked when they begin with gzip's magic. All rows must have the same number of columns (libsvm
    excepted, where a batch is as wide as the largest index so far).
    """

    def __init__(self, name: str, content_type: str, options: Options) -> None:
        self.name = name
        self.content_type = content_type  # as given; "" when the request had none
        self.options = options
        self.folder: Path | None = None
        self._batch: Batch | None = None
        self._files: list[Path] | None = None
        self._pipe: Pipe | None = None
        self.wrapped = False  # every file is RecordIO frames, each of them a file of the content type

    @classmethod
    def of(
        cls,
        name: str,
        features: Any,
        label: Any = None,
        weight: Any = None,
        group: Any = None,
        *,
        checked: bool = False,
    ) -> Self:
        """A channel over arrays: dense, scipy sparse, pandas or polars frames; a Channel is passed through.

        `checked`: features that are float32 already are not searched for infinity here; whoever reads them does it.

        Raises:
            ValueError: what cannot be rows of numbers, in scikit-learn's words.
        """
        if isinstance(features, cls):
            return features
        channel = cls(name, "", Options())
        given = isinstance(features, Batch)
        channel._batch = features if given else batch_of(features, label, weight, group, checked)
        return channel

    @classmethod
    def from_folder(
        cls,
        name: str,
        folder: Path,
        content_type: str = "",
        *,
        label_size: int = 1,
        delimiter: str = "auto",
        csv_weights: bool = False,
        first_index: int | None = 0,
        width: int | None = None,
        record_wrapper: str = "None",
    ) -> Self:
        """A File or FastFile channel: every file of the tree, in name order; or the one file that `folder` is.

        `label_size` and `delimiter` yield to the content type's parameters; "auto" is seen from each file's first line.
        `csv_weights`: the CSV column after the label is the weight. `first_index`, `width`: see format.Options.
        `record_wrapper` "RecordIO": each frame of a file is a file of the content type.

        Raises:
            DataError: a parameter of the content type that makes no sense.
        """
        options = Options(label_size, delimiter, csv_weights, first_index, width)
        channel = cls(name, content_type, options)._with_wrapper(record_wrapper)
        channel.folder = folder
        return channel

    @classmethod
    def from_files(cls, name: str, files: Sequence[Path], content_type: str = "", **options: Any) -> Self:
        """A channel over named files, in the order given; `options` as for `from_folder`."""
        channel = cls.from_folder(name, Path(os.devnull), content_type, **options)
        channel.folder, channel._files = None, list(files)
        return channel

    @classmethod
    def from_pipe(cls, name: str, prefix: Path, content_type: str = "", *, wait: float = 60.0, **options: Any) -> Self:
        """A Pipe channel: FIFOs `<prefix>_0`, `<prefix>_1`, …, one per pass; waits `wait` seconds for each to appear.

        `options` as for `from_folder`. A pass given up early closes its FIFO.
        """
        channel = cls.from_folder(name, prefix, content_type, **options)
        channel.folder, channel._pipe = None, Pipe(prefix, wait)
        return channel

    @property
    def is_arrays(self) -> bool:
        """Whether the rows are in memory already."""
        return self._batch is not None

    @property
    def is_pipe(self) -> bool:
        """Whether every pass comes through a FIFO of its own."""
        return self._pipe is not None

    def files(self) -> list[Path]:
        """The files of a File or FastFile channel, hidden ones too, in name order; raises DataError for others."""
        if self._files is None:
            if self.folder is None:
                raise DataError(f"channel {self.name!r} has no files: it is a pipe or arrays")
            self._files = _tree(self.folder)
        return self._files

    def batches(self, rows: int | None = None) -> Iterator[Batch]:
        """One pass over the rows, in batches of `rows` (the last may be shorter; None: as suits the format).

        Files whose names begin with `.` or `_` (markers, manifests) are passed over. No rows give no batch.

        Raises:
            DataError: naming the file and the line or record.
        """
        if rows is not None and rows < 1:
            raise ValueError(f"batches of {rows} rows: at least 1 is needed")
        if self._batch is not None:
            return iter([self._batch]) if rows is None else rechunk([self._batch], rows)
        found, options = self._format()
        given = self._checked(found, options)
        return given if rows is None else rechunk(given, rows)

    def read(self) -> Batch:
        """The whole channel as one batch; without a row and without columns when there is none.

        Raises:
            DataError: naming the file and the line or record.
        """
        batches = list(self.batches())
        return join(batches) if batches else Batch(np.empty((0, 0), np.float32))

    def records(self) -> Iterator[tuple[dict[str, Any], str]]:
        """One pass over the records of JSON, JSON Lines, augmented manifests, Parquet and RecordIO, as dicts.

        Each with its place, for errors: the file and the line or record.

        Raises:
            DataError: naming the file and the line or record.
        """
        found, options = self._format()
        for source in self.sources():
            yield from found.records(source, options)

    def payloads(self) -> Iterator[bytes]:
        """One pass over the raw RecordIO frames (image archives, wrapped records), whatever the content type.

        Raises:
            DataError: naming the file and the record.
        """
        for source in self.sources(unwrap=False):
            with source.open() as stream:
                yield from frames(stream, source.name)

    def sources(self, unwrap: bool = True) -> Iterator[Source]:
        """One pass over the bytes as they are, file after file; of a wrapped channel each frame, if `unwrap`."""
        for source in self._outer():
            if not (self.wrapped and unwrap):
                yield source
                continue
            with source.open() as stream:
                for number, payload in enumerate(frames(stream, source.name), 1):
                    yield Source.of_body(payload, f"{source.name}, record {number}")

    def _with_wrapper(self, record_wrapper: str) -> Self:
        if record_wrapper not in ("None", "", "RecordIO"):
            raise DataError(f"channel {self.name!r}: RecordWrapperType {record_wrapper!r} is not None or RecordIO")
        self.wrapped = record_wrapper == "RecordIO"
        return self

    def _format(self) -> tuple[Format, Options]:
        if self._batch is not None:
            raise DataError(f"channel {self.name!r} is arrays, not records")
        if not self.content_type:
            raise DataError(f"channel {self.name!r} has no content type")
        given = ContentType.parse(self.content_type)
        return format_of(given), self.options.of(given)

    def _outer(self) -> Iterator[Source]:
        if self._pipe is not None:
            with self._pipe.open() as (name, stream):
                yield Source.of_stream(name, stream)
            return
        for path in self.files():
            if not path.name.startswith((".", "_")):
                yield Source.of_file(path)

    def _checked(self, found: Format, options: Options) -> Iterator[Batch]:
        """The batches of all sources, as long as they agree in columns."""
        first: tuple[str, int] | None = None
        widest = 0
        for source in self.sources():
            for batch in found.batches(source, options):
                first = first or (source.name, batch.width)
                if found.ragged:
                    widest = max(widest, batch.width)
                    yield batch.widened(widest)
                    continue
                if batch.width != first[1]:
                    raise DataError(
                        f"{source.name} has {batch.width} feature columns, but {first[0]} has {first[1]}: "
                        f"all files of channel {self.name!r} must agree"
                    )
                yield batch


class HeldChannel(Channel):
    """A channel over examples that a Python caller holds and that are no rows of numbers.

    Attributes:
        held: the examples, as the algorithm that made the channel reads them.
    """

    held: Any

    @classmethod
    def over(cls, name: str, held: Any) -> Self:
        channel = cls(name, "", Options())
        channel.held = held
        return channel


def _tree(root: Path) -> list[Path]:
    """Every file below `root`, in the order of their relative names, as S3 orders keys."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(root).as_posix()))
