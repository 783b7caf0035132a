"""The errors of data that cannot be read; apart from the readers, so that a server can know them without numpy."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be read: the message names the file and the line or record number, and what was expected."""


class NoData(DataError):
    """A channel or request without a single row (a host may have been given none of the objects)."""
