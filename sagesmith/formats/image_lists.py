"""image_lists: `.lst` files, which say what pictures a folder holds and how they are labelled.

A line is `index TAB label … TAB path`: a whole number, one label or (im2rec's packed labels) several, a path below the
folder of pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from sagesmith.formats.errors import DataError


class Listed(NamedTuple):
    """One line of a `.lst` file."""

    number: int  # unlike any other line's
    label: np.ndarray  # float32 (n,)
    path: str  # relative, with forward slashes; never leaves the folder


def read_list(path: Path, labels: int | None = None) -> list[Listed]:
    """The lines of a `.lst` file, in their order; empty ones are passed over.

    Args:
        labels: how many every line must have; None: at least one.

    Raises:
        DataError: naming the line: not of the form, an index or a path that stands twice, a path that leaves the
            folder; or no lines at all.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    found: list[Listed] = []
    numbers: dict[int, int] = {}
    paths: dict[str, int] = {}
    for line_number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {line_number}"
        one = _listed(line.rstrip("\r"), where, labels)
        for what, before in (
            ("index", numbers.setdefault(one.number, line_number)),
            ("path", paths.setdefault(one.path, line_number)),
        ):
            if before != line_number:
                raise DataError(f"{where}: its {what} stands in line {before} already: {line[:80]!r}")
        found.append(one)
    if not found:
        raise DataError(f"{path}: names no pictures")
    return found


def _listed(line: str, where: str, labels: int | None) -> Listed:
    cells = line.split("\t")
    wanted = "index TAB label TAB path" if labels == 1 else "index TAB label … TAB path"
    if len(cells) < 3 or (labels is not None and len(cells) != labels + 2):
        raise DataError(f"{where}: {len(cells)} columns between tabs, expected {wanted}: {line[:80]!r}")
    try:
        index = int(cells[0])
        label = np.array([float(cell) for cell in cells[1:-1]], np.float32)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: index and label are numbers ({wanted}), found {line[:80]!r}") from None
    if index < 0 or index >= 2**64 or not np.isfinite(label).all():
        raise DataError(f"{where}: index is a whole number from 0 and label a finite one, found {line[:80]!r}")
    return Listed(index, label, inside(cells[-1].strip(), where))


def inside(path: str, where: str) -> str:
    """A path that a list or a manifest gives, if it stays in the folder of pictures.

    Raises:
        DataError: it does not, naming `where`.
    """
    parts = PurePosixPath(path)
    if not path or "\0" in path or "\\" in path or parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise DataError(f"{where}: {path!r} is not a path below the folder of pictures")
    return parts.as_posix()


def write_list(path: Path, lines: Iterable[Listed]) -> None:
    """Writes a `.lst` file as im2rec does: labels with six decimals."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            labels = "".join(f"{value:f}\t" for value in line.label)
            file.write(f"{line.number}\t{labels}{line.path}\n")
