"""Manifests: which objects or records a channel consists of (S3DataType ManifestFile and AugmentedManifestFile)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json

LONGEST_LINE = 16 << 20


def uris(text: bytes, name: str = "manifest") -> list[str]:
    """The S3 URIs of `[{"prefix": "s3://bucket/p/"}, "a", "b"]`; without a prefix, entries are whole URIs.

    Raises:
        DataError: not of this form, or no S3 URI.
    """
    entries = load_json(text, name)
    if not isinstance(entries, list) or not entries:
        raise DataError(f'{name}: a manifest is a JSON list, [{{"prefix": "s3://…"}}, "name", …]')
    prefix = ""
    if isinstance(entries[0], dict):
        prefix = entries.pop(0).get("prefix")
        if not isinstance(prefix, str) or not prefix.startswith("s3://"):
            raise DataError(f"{name}: prefix {str(prefix)[:80]!r} is not an S3 URI")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, str) or not entry:
            raise DataError(f"{name}, entry {number}: {str(entry)[:80]!r} is not a name")
        bucket, _, key = (prefix + entry).removeprefix("s3://").partition("/")
        if not (prefix + entry).startswith("s3://") or not bucket or not key:
            raise DataError(f"{name}, entry {number}: {prefix + entry!r} is not the S3 URI of an object")
    return [prefix + entry for entry in entries]


def augmented(
    stream: BinaryIO, attributes: Sequence[str] = (), name: str = "manifest", *, uris: bool = True
) -> Iterator[dict[str, Any]]:
    """The records of an augmented manifest (JSON Lines), each with the `attributes` asked for (none: with all).

    Values of attributes that end in `-ref` are S3 URIs of the data itself; without `uris`, whatever they are.

    Raises:
        DataError: a line that is not a JSON object, lacks an attribute, or refers to no S3 URI.
    """
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        where = f"{name}, line {number}"
        if len(line) == LONGEST_LINE:
            raise DataError(f"{where}: longer than {LONGEST_LINE} bytes")
        if not line.strip():
            continue
        record = load_json(line, where)
        if not isinstance(record, dict):
            raise DataError(f"{where}: not a JSON object")
        for attribute in attributes:
            if attribute not in record:
                raise DataError(f"{where}: attribute {attribute!r} is missing; there are: {', '.join(record)}")
        for attribute in attributes or record:
            if uris and attribute.endswith("-ref") and not str(record[attribute]).startswith("s3://"):
                raise DataError(f"{where}: {attribute} {json.dumps(record[attribute])[:80]} is not an S3 URI")
        yield {attribute: record[attribute] for attribute in attributes} if attributes else record
