"""Model and source archives: a folder to tar.gz and back, trusting nothing that an archive says.

`unpack` never writes outside its folder, makes no links and no devices, and stops at a number of bytes and members;
`pack` gives the same bytes for the same files. Everybody who meets a model.tar.gz or sourcedir.tar.gz comes here.
"""

from __future__ import annotations

import errno
import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

HEADER_BYTES = 1 << 20  # what the headers before one member may take, and the padding after the last
CHUNK = 1 << 20  # bytes copied at a time
GZIP_MAGIC = b"\x1f\x8b"


class ArchiveError(ValueError):
    """An archive that will not be unpacked, or a folder that cannot be packed; the message names the member."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold before it is taken for a bomb."""

    size: int = 64 << 30  # bytes, unpacked, all members together
    members: int = 100_000


def unpack(archive: Path, into: Path, limits: Limits = Limits()) -> list[Path]:
    """Unpacks a tar or tar.gz below `into` (made when absent) and returns the files, in the archive's order.

    Owners, times and permissions are not taken over, save whether a file may be executed by its owner.

    Raises:
        ArchiveError: damaged or truncated; a link, device, sparse file, absolute name or `..`; more than `limits`.
        OSError: the disk's errors.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            file: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            reader = _Reader(file)
            return _unpack_members(reader, into, limits)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, UnicodeError) as error:
        raise ArchiveError(f"{archive.name} is not a whole tar or tar.gz archive: {error or 'truncated'}") from None
    except ArchiveError as error:
        raise ArchiveError(f"{archive.name}: {error}") from None


class _Reader:
    """A forward-only file for tarfile that gives out no more bytes than were allowed for what is being read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0
        self._allowed = HEADER_BYTES
        self.last = b""

    def allow(self, count: int) -> None:
        """Permits `count` bytes from here on."""
        self._allowed = self._position + count

    def read(self, count: int = -1) -> bytes:
        if count < 0 or self._position + count > self._allowed:
            raise ArchiveError(f"its headers or padding take more than {HEADER_BYTES} bytes in one place")
        self.last = self._file.read(count)
        self._position += len(self.last)
        return self.last

    def seek(self, position: int) -> None:
        while self._position < position:
            if not self.read(min(CHUNK, position - self._position)):
                raise EOFError
        if self._position != position:
            raise ArchiveError("it asks to be read backwards")

    def tell(self) -> int:
        return self._position


def _unpack_members(reader: _Reader, into: Path, limits: Limits) -> list[Path]:
    written: dict[Path, None] = {}
    size = 0
    for count, member in enumerate(_members(reader), start=1):
        if count > limits.members:
            raise ArchiveError(f"it has more than {limits.members} members")
        path = _destination(member, into)
        size += member.size
        if size > limits.size:
            raise ArchiveError(f"it unpacks to more than {limits.size} bytes, at member {member.name!r}")
        try:
            if member.isdir():
                _make_folders(path, into)
                continue
            _make_folders(path.parent, into)
            _write(reader, member, path)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise ArchiveError(f"member {member.name!r} is both a file and a folder") from None
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
                raise ArchiveError(f"member {member.name!r}: {error.strerror}") from None
            raise
        written[path] = None
    return list(written)


def _members(reader: _Reader) -> Iterator[tarfile.TarInfo]:
    file: Any = reader
    with tarfile.open(fileobj=file, mode="r:") as opened:
        archive: Any = opened
        # tarfile takes the mode "r:" to allow seeking; our reader goes forward, and the order of reading is that of
        # the file. It also keeps every member it has seen: forgotten here, so that memory does not grow.
        while (member := archive.next()) is not None:
            archive.members.clear()
            reader.allow(member.size + HEADER_BYTES)
            yield member
            reader.allow(HEADER_BYTES)
    # tarfile takes a damaged header for the end of the archive. A true end is a block of zeros, or nothing.
    if reader.last.strip(b"\0"):
        raise ArchiveError("a damaged header after its last readable member")
    while reader.read(1 << 16):  # to the end, for gzip checks its sum there
        if reader.last.strip(b"\0"):
            raise ArchiveError("data after its end")


def _destination(member: tarfile.TarInfo, into: Path) -> Path:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise ArchiveError(f"member {member.name!r} would lie outside the folder")
    if member.issym() or member.islnk():
        raise ArchiveError(f"member {member.name!r} is a link to {member.linkname!r}; links are not unpacked")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise ArchiveError(f"member {member.name!r} is neither a plain file nor a folder")
    if member.isreg() and not name.parts:
        raise ArchiveError(f"member {member.name!r} has no name")
    if member.size < 0:
        raise ArchiveError(f"member {member.name!r} has a negative size")
    return into.joinpath(*name.parts)


def _make_folders(folder: Path, into: Path) -> None:
    """Makes the folders between `into` and `folder`, refusing to walk through a link that was there before."""
    current = into
    for part in folder.relative_to(into).parts:
        current = current / part
        if current.is_symlink():
            raise ArchiveError(f"{current} is a link; nothing is unpacked through links")
        current.mkdir(exist_ok=True)


def _write(reader: _Reader, member: tarfile.TarInfo, path: Path) -> None:
    path.unlink(missing_ok=True)  # a later member of the same name replaces an earlier one, as in tar
    mode = 0o755 if member.mode & 0o100 else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        left = member.size
        while left:
            data = reader.read(min(CHUNK, left))
            if not data:
                raise ArchiveError(f"member {member.name!r} is truncated")
            file.write(data)
            left -= len(data)


def pack(folder: Path, archive: Path, *, level: int = 3) -> int:
    """Packs what lies in `folder` into the tar.gz `archive`, whole or not at all; returns its size in bytes.

    The same files give the same bytes: names sorted, times and owners zero. A link to something inside the folder is
    packed as what it points to, since no unpacker should follow links. `level` is gzip's, 0 to 9.

    Raises:
        ArchiveError: a link that leaves the folder, a pipe, socket or device.
        OSError: the disk's errors.
    """
    if archive.resolve().is_relative_to(folder.resolve()):
        raise ArchiveError(f"{archive} lies in the folder that it should hold")
    partial = archive.with_name(f".{archive.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as raw:
            with (
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=level, mtime=0) as zipped,
                tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for name in _names(folder):
                    _add(tar, folder, name)
            raw.flush()
            os.fsync(raw.fileno())
            size = raw.tell()
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _names(folder: Path) -> Iterator[str]:
    """Every file and folder below `folder`, relative, sorted, a folder before what it holds."""
    root = folder.resolve()
    waiting: list[tuple[str, tuple[Path, ...]]] = [("", (root,))]
    while waiting:
        prefix, parents = waiting.pop()
        entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name, reverse=True)
        if prefix:
            yield prefix
        for entry in reversed(entries):
            if not entry.is_dir(follow_symlinks=True):
                yield prefix + entry.name
        for entry in entries:
            if entry.is_dir(follow_symlinks=True):
                target = Path(entry.path).resolve()
                if target in parents:
                    raise ArchiveError(f"{prefix + entry.name!r} is a link to a folder that holds it")
                if not target.is_relative_to(root):
                    raise ArchiveError(f"{prefix + entry.name!r} is a link that leaves the folder")
                waiting.append((f"{prefix}{entry.name}/", (*parents, target)))


def _add(tar: tarfile.TarFile, folder: Path, name: str) -> None:
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise ArchiveError(f"{name!r} is a link that leaves the folder")
    member = tarfile.TarInfo(name.rstrip("/"))
    if path.is_dir():
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
        return
    if not path.is_file():
        raise ArchiveError(f"{name!r} is neither a file nor a folder")
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        member.size = status.st_size
        member.mode = 0o755 if status.st_mode & 0o100 else 0o644
        tar.addfile(member, file)
