"""Channel: one named input of a training job, as files, a pipe or arrays; read in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from sagesmith.formats.batch import Batch


class Channel:
    """Interface sketch; see docs/architecture.md. The formats room fills it in."""

    name: str
    content_type: str

    @classmethod
    def of(cls, name: str, features: Any, label: Any = None, weight: Any = None, group: Any = None) -> Self:
        """A channel over arrays: dense, scipy sparse, pandas or polars frames; a Channel is passed through."""
        raise NotImplementedError

    @classmethod
    def from_folder(cls, name: str, folder: Path, content_type: str = "", *, label_size: int = 1) -> Self:
        """A File or FastFile channel: every file of the tree, in name order."""
        raise NotImplementedError

    @classmethod
    def from_pipe(cls, name: str, prefix: Path, content_type: str = "", *, label_size: int = 1) -> Self:
        """A Pipe channel: FIFOs `<prefix>_0`, `<prefix>_1`, …, one per pass over the data."""
        raise NotImplementedError

    def files(self) -> list[Path]:
        """The files of a File or FastFile channel, in name order (vision, text); raises for others."""
        raise NotImplementedError

    def batches(self, rows: int | None = None) -> Iterator[Batch]:
        """One pass over the rows, in batches of `rows` (the last may be shorter; None: as suits the format)."""
        raise NotImplementedError

    def read(self) -> Batch:
        """The whole channel as one batch."""
        raise NotImplementedError

    def records(self) -> Iterator[dict[str, Any]]:
        """One pass over the records of JSON Lines, augmented manifests and Parquet, as dicts."""
        raise NotImplementedError
