"""manifests: augmented manifests as files: JSON Lines whose `-ref` attributes are paths beside the manifest.

So the agent lays them out for a job in File mode; a user may have them so on his disk. In Pipe mode: `streams.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sagesmith.algorithms.images.pictures import FilePictures
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.image_lists import inside
from sagesmith.formats.manifest import augmented

SUFFIXES = (".manifest", ".jsonl", ".jsonlines")
REFERENCE, METADATA = "-ref", "-metadata"


def manifest_pictures(path: Path) -> FilePictures:
    """The pictures of a manifest: its first attribute that ends in `-ref`, labelled by its first other attribute.

    Attributes that end in `-metadata` are passed over. A label that ends in `-ref` is the bytes of its file; others are
    the bytes that a pipe would give: the text, or the JSON of what is no text.

    Raises:
        DataError: naming the line: not of this form, or a file that is not there.
    """
    files: list[Path] = []
    labels: list[Any] = []
    picture = label = ""
    with path.open("rb") as stream:
        for number, record in enumerate(augmented(stream, name=path.name, uris=False), 1):
            where = f"{path.name}, record {number}"
            if not picture:
                picture, label = _attributes(record, where)
            files.append(_file(record, picture, path.parent, where))
            if label.endswith(REFERENCE):
                labels.append(_file(record, label, path.parent, where))
            else:
                labels.append(_text(record, label, where))
    if not files:
        raise NoData(f"{path.name}: names no pictures")
    return FilePictures(path.parent, files, labels)


def _attributes(record: dict[str, Any], where: str) -> tuple[str, str]:
    names = [name for name in record if not name.endswith(METADATA)]
    picture = next((name for name in names if name.endswith(REFERENCE)), "")
    label = next((name for name in names if name != picture), "")
    if not picture or not label:
        raise DataError(
            f"{where}: needs an attribute that ends in -ref, for the picture, and another for its label; "
            f"there are: {', '.join(record)}"
        )
    return picture, label


def _file(record: dict[str, Any], attribute: str, folder: Path, where: str) -> Path:
    value = _value(record, attribute, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: {attribute} {json.dumps(value)[:80]} is not a path")
    if value.startswith("s3://"):
        raise DataError(f"{where}: {attribute} {value!r} is in S3; only a job can read it, with AugmentedManifestFile")
    path = folder / inside(value, where)
    if not path.is_file():
        raise DataError(f"{where}: {attribute} {value!r}: no such file beside the manifest")
    return path


def _text(record: dict[str, Any], attribute: str, where: str) -> bytes:
    value = _value(record, attribute, where)
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _value(record: dict[str, Any], attribute: str, where: str) -> Any:
    if attribute not in record:
        raise DataError(f"{where}: attribute {attribute!r} is missing; there are: {', '.join(record)}")
    return record[attribute]
