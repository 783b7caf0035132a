"""Format: what a file in this folder offers for the content types that it registers, and how the right one is found.

A new format is one file here with a subclass of Format in it; nothing else needs to know. Format files must be cheap to
import: pyarrow, numba and scipy are imported inside the functions that use them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import sagesmith.formats
from sagesmith.formats.batch import Batch, join
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.source import Source


@dataclass(frozen=True)
class Options:
    """How rows are to be read. What a format has no use for, it does not look at; the channel checks the rest."""

    label_size: int = 1  # leading label columns (CSV, Parquet), or whether there is a label at all (libsvm)
    delimiter: str = ","  # CSV; "auto" is guessed from the first line
    weighted: bool = False  # CSV: the column after the label is the instance weight
    first_index: int | None = 0  # libsvm: the number of the first column; None: 1 when no index is 0
    width: int | None = None  # feature columns, where the caller knows; rows that do not fit are refused
    charset: str = "utf-8"  # text formats

    def of(self, content_type: ContentType) -> Options:
        """These options with those that the content type's parameters give (`text/csv;label_size=0`).

        Raises:
            DataError: a parameter has no such value.
        """
        delimiter = content_type.parameters.get("delimiter", self.delimiter)
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if delimiter != "auto" and (
            len(delimiter) != 1 or not delimiter.isascii() or delimiter in '\r\n"+-.0123456789eE'
        ):
            raise DataError(f"content type {content_type}: delimiter {delimiter!r} cannot separate numbers")
        return replace(
            self,
            label_size=content_type.number("label_size", self.label_size),
            delimiter=delimiter,
            charset=content_type.parameters.get("charset", content_type.parameters.get("encoding", self.charset)),
        )


class Format:
    """Bytes to rows, for some content types. Subclasses register themselves by being defined."""

    content_types: ClassVar[tuple[str, ...]] = ()  # in lower case, the proper name first, then aliases
    ragged: ClassVar[bool] = False  # whether batches of one data set may differ in width (libsvm)

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        """The rows of a source in batches of bounded size, none of them empty.

        Raises:
            DataError: naming the source and the line or record.
        """
        raise DataError(f"{source.name}: {self.content_types[0]} cannot be read as rows of numbers")

    def records(self, source: Source, options: Options) -> Iterator[tuple[dict[str, Any], str]]:
        """The records of a source as dicts, each with its place: the source and the line or record.

        Raises:
            DataError: naming the source and the line or record.
        """
        raise DataError(f"{source.name}: {self.content_types[0]} cannot be read as records")


@cache
def formats() -> dict[str, Format]:
    """Every format by each of its content types, from the files of this folder."""
    found: dict[str, Format] = {}
    for module in pkgutil.iter_modules(sagesmith.formats.__path__):
        if not module.name.endswith(("_compiled", "channel")):  # those import numba, or this file
            importlib.import_module(f"sagesmith.formats.{module.name}")
    for one in [subclass() for subclass in Format.__subclasses__()]:
        for name in one.content_types:
            if name in found:
                raise TypeError(f"content type {name!r} is registered twice")
            found[name] = one
    return found


def format_of(content_type: ContentType) -> Format:
    """The format of a content type.

    Raises:
        DataError: unknown, listing what is known.
    """
    known = formats()
    if content_type.name not in known:
        raise DataError(f"unknown content type {content_type.name!r}; known: {', '.join(sorted(known))}")
    return known[content_type.name]


def normalised(text: str) -> ContentType:
    """A content type with its format's proper name: `CSV;label_size=1` → `text/csv;label_size=1`.

    Raises:
        DataError: unknown, listing what is known.
    """
    given = ContentType.parse(text)
    return ContentType(format_of(given).content_types[0], given.parameters)


def read_body(body: bytes, content_type: str, options: Options | None = None) -> Batch:
    """The rows of a request body. Without options there are no labels, as in requests to served models.

    Raises:
        NoData: the body holds no row.
        DataError: naming the line or record, or an unknown content type.
    """
    given = ContentType.parse(content_type)
    found = format_of(given)
    options = (options or Options(label_size=0)).of(given)
    batches = list(found.batches(Source.of_body(body), options))
    if not batches:
        raise NoData("the request holds no rows")
    return join(batches)
