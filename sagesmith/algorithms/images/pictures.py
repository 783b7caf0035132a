"""pictures: collections of labelled pictures, read one by one in any order, from files or arrays."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.image_lists import Listed
from sagesmith.formats.image_records import record_at, scan
from sagesmith.formats.images import SUFFIXES, decoded


class Picture(NamedTuple):
    """One picture, not decoded yet, and what belongs to it."""

    name: str  # for errors
    data: bytes | memoryview | np.ndarray  # encoded; or pixels (H, W, C) uint8
    label: Any  # float32 (n,), or the bytes of its annotation or mask

    def pixels(self, *, at_least: int | None = None, grey: bool = False) -> np.ndarray:
        """Its pixels (H, W, C) uint8; see `formats.images.decoded`.

        Raises:
            DataError: naming the picture.
        """
        if isinstance(self.data, np.ndarray):
            return self.data
        return decoded(self.data, self.name, at_least=at_least, grey=grey)


class Pictures:
    """Pictures by number. Safe to be read by several threads."""

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, i: int) -> str:
        raise NotImplementedError

    def data(self, i: int) -> bytes | memoryview | np.ndarray:
        raise NotImplementedError

    def label(self, i: int) -> Any:
        raise NotImplementedError

    def picture(self, i: int) -> Picture:
        """Raises DataError, naming the picture, when it cannot be read."""
        return Picture(self.name(i), self.data(i), self.label(i))

    def __iter__(self) -> Iterator[Picture]:
        return (self.picture(i) for i in range(len(self)))


class RecordPictures(Pictures):
    """The records of `.rec` files, mapped into memory: reading needs no copy, and files may be larger than memory.

    Raises:
        DataError: naming the file and the record.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._maps = [_mapped(path) for path in self._files]
        self._starts = [scan(data, str(path)) for data, path in zip(self._maps, self._files, strict=True)]
        self._firsts = np.cumsum([0, *(len(starts) - 1 for starts in self._starts)])
        if not len(self):
            raise NoData(f"{', '.join(map(str, self._files)) or 'the channel'}: no records")

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def _where(self, i: int) -> tuple[int, int]:
        """File and record in it."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        file = bisect_right(self._firsts, i) - 1
        return file, i - int(self._firsts[file])

    def name(self, i: int) -> str:
        file, record = self._where(i)
        return f"{self._files[file]}, record {record + 1}"

    def data(self, i: int) -> bytes | memoryview:
        return self.picture(i).data  # type: ignore[return-value]

    def label(self, i: int) -> np.ndarray:
        return self.picture(i).label  # type: ignore[no-any-return]

    def picture(self, i: int) -> Picture:
        file, record = self._where(i)
        name = f"{self._files[file]}, record {record + 1}"
        label, _, data = record_at(self._maps[file], int(self._starts[file][record]), name)
        return Picture(name, data, label)


def _mapped(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise NoData(f"{path}: is empty")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}") from None


class FilePictures(Pictures):
    """Files, with labels that are at hand or (bytes of an annotation or a mask) files too.

    Args:
        root: names in errors are relative to its parent: `train/cat/1.jpg`.
        labels: float32 (n, k), a list with an entry per picture, or the paths of the files that say more.
    """

    def __init__(self, root: Path, files: Sequence[Path], labels: Sequence[Any] | np.ndarray) -> None:
        if len(files) != len(labels):
            raise ValueError(f"{len(files)} pictures, but {len(labels)} labels")
        self._root, self.files, self._labels = root, list(files), labels
        self._above = os.path.join(root.parent, "")  # what names leave out

    def __len__(self) -> int:
        return len(self.files)

    def name(self, i: int) -> str:
        return str(self.files[i]).removeprefix(self._above)

    def data(self, i: int) -> bytes:
        return read(self.files[i], self.name(i))

    def label(self, i: int) -> Any:
        found = self._labels[i]
        return read(found, named(self._root, found)) if isinstance(found, Path) else found


class ArrayPictures(Pictures):
    """Pixels in memory: (n, H, W, C) uint8, or a list of (H, W, C), with a label each."""

    def __init__(self, images: Sequence[np.ndarray] | np.ndarray, labels: Sequence[Any] | np.ndarray) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} pictures, but {len(labels)} labels")
        self._images, self._labels = [checked_pixels(image, f"picture {i}") for i, image in enumerate(images)], labels
        self.nbytes = sum(image.nbytes for image in self._images)

    def __len__(self) -> int:
        return len(self._images)

    def name(self, i: int) -> str:
        return f"picture {i}"

    def data(self, i: int) -> np.ndarray:
        return self._images[i]

    def label(self, i: int) -> Any:
        return self._labels[i]


class ChosenPictures(Pictures):
    """Some of the pictures of another collection, by number."""

    def __init__(self, pictures: Pictures, numbers: Sequence[int] | np.ndarray) -> None:
        self._pictures, self._numbers = pictures, np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, i: int) -> str:
        return self._pictures.name(int(self._numbers[i]))

    def data(self, i: int) -> bytes | memoryview | np.ndarray:
        return self._pictures.data(int(self._numbers[i]))

    def label(self, i: int) -> Any:
        return self._pictures.label(int(self._numbers[i]))

    def picture(self, i: int) -> Picture:
        return self._pictures.picture(int(self._numbers[i]))


def checked_pixels(image: Any, name: str) -> np.ndarray:
    """(H, W, C) uint8 of an array that a caller gave: (H, W) or (H, W, 1 or 3), of whole numbers from 0 to 255.

    Raises:
        DataError: it is something else.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
        raise DataError(f"{name}: a picture is an array (height, width, 1 or 3), this one has shape {np.shape(image)}")
    if array.dtype == np.uint8:
        return array
    whole = array.astype(np.uint8, copy=False) if array.dtype.kind in "uifb" else None
    if whole is None or not (whole == array).all():
        raise DataError(f"{name}: pixels are whole numbers from 0 to 255, found {array.dtype} beyond them")
    return whole


def named(root: Path, path: Path) -> str:
    """A file's name in errors: with its channel's folder, without what is above it."""
    try:
        return path.relative_to(root.parent).as_posix()
    except ValueError:
        return str(path)


def read(path: Path, name: str) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY)  # half the calls of Path.read_bytes, each of which gives up the GIL
        try:
            size = os.fstat(file).st_size
            data = os.read(file, size)
            while len(data) < size and (more := os.read(file, size - len(data))):
                data += more
            return data
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from None


def picture_files(files: Sequence[Path]) -> list[Path]:
    """Those that are pictures by their names; hidden ones are passed over."""
    return [path for path in _shown(files) if path.suffix.lower() in SUFFIXES]


def _shown(files: Sequence[Path]) -> list[Path]:
    """Those that are not hidden, and no markers or manifests."""
    return [path for path in files if not path.name.startswith((".", "_"))]


def listed(root: Path, lines: Sequence[Listed], where: str) -> FilePictures:
    """The pictures below `root` that the lines of a `.lst` name; others are passed over.

    Raises:
        DataError: a file that is not there, by its line's path.
    """
    files = [root / line.path for line in lines]
    if missing := [line.path for line, path in zip(lines, files, strict=True) if not path.is_file()]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{where}: {missing[0]}{more} of its pictures are not in {root}")
    return FilePictures(root, files, [line.label for line in lines])


def class_folders(root: Path) -> tuple[FilePictures, list[str]]:
    """The pictures of a folder with a folder for each class, labelled 0, 1, … in the order of the folders' names.

    Raises:
        DataError: no class folders, or one without pictures.
    """
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{root}: has no folders; a folder for each class, with its pictures in it, is expected")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = [Path(path) for path in sorted(_pictures_below(os.path.join(root, name)))]
        if not found:
            raise DataError(f"{root / name}: class {name!r} has no pictures ({', '.join(SUFFIXES)})")
        files += found
        labels += [label] * len(found)
    return FilePictures(root, files, np.array(labels, np.float32)[:, None]), names


def _pictures_below(folder: str) -> Iterator[str]:
    """The paths of a folder's pictures, and those of the folders in it; hidden files are passed over. As text: making,
    comparing and asking 50,000 Path objects takes seconds."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _pictures_below(entry.path)
            elif not entry.name.startswith((".", "_")) and os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield entry.path


def paired(root: Path, files: Sequence[Path], others: Path, other_files: Sequence[Path], suffix: str) -> FilePictures:
    """Pictures and the files that say more about each: of the same path and stem, with `suffix`, below `others`.

    Raises:
        DataError: a picture without such a file, or such a file without a picture, by name.
    """
    stems = _by_stem(root, picture_files(files))
    other_stems = _by_stem(others, [path for path in _shown(other_files) if path.suffix.lower() == suffix])
    _check_partners(root, stems, other_stems, f"{suffix} of that name in channel {others.name!r}")
    _check_partners(others, other_stems, stems, f"picture of that name in channel {root.name!r}")
    if not stems:
        raise NoData(f"{root}: no pictures ({', '.join(SUFFIXES)})")
    order = sorted(stems)
    return FilePictures(root, [stems[stem] for stem in order], [other_stems[stem] for stem in order])


def _check_partners(root: Path, stems: dict[str, Path], others: dict[str, Path], what: str) -> None:
    if alone := sorted(set(stems) - set(others)):
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise DataError(f"{named(root, stems[alone[0]])}: has no {what}{more}")


def _by_stem(root: Path, files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        stem = path.relative_to(root).with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{named(root, path)} and {named(root, found[stem])}: which of them is meant by {stem!r}?")
        found[stem] = path
    return found
