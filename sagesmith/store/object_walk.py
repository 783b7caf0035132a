"""Walking the tree of plain files in the order of their keys, skipping what a listing does not ask for."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sagesmith.store.object_paths import MORE, OBJECT, names_of, rest_of, text_of
from sagesmith.store.objects import CommonPrefix

_LARGE = 500  # entries from which a folder's sorted listing is remembered between pages
_SETTLED = 1.0  # seconds: younger folders may change again without their modification time showing it


@dataclass(frozen=True)
class Found:
    """A key and the file that holds it."""

    key: str
    path: str


@dataclass(frozen=True)
class _Folder:
    key: str  # the text that all keys below begin with
    path: str


@dataclass(frozen=True)
class _Level:
    """One folder's content: files and folders in key order, and apart the folders that continue long names."""

    plain: list[Found | _Folder]
    continued: list[_Folder]


class ObjectWalk:
    """Lists keys below the folder of a bucket; remembers large folders until they change."""

    def __init__(self) -> None:
        self._levels: OrderedDict[tuple[str, str], tuple[int, _Level]] = OrderedDict()
        self._lock = threading.Lock()

    def keys(self, root: str, prefix: str, after: str, delimiter: str = "") -> Iterator[Found | CommonPrefix]:
        """Keys with `prefix` beyond `after`, in UTF-8 byte order; with a delimiter rolled into common prefixes."""
        folder = prefix.rpartition("/")[0]
        start = _Folder(f"{folder}/" if "/" in prefix else "", root)
        if "/" in prefix:
            start = _Folder(start.key, os.path.join(root, *names_of(folder)))
        last = ""
        for item in self._walk(start, _Wanted(prefix, after, delimiter)):
            if isinstance(item, CommonPrefix):
                if item.prefix == last:
                    continue
                last = item.prefix
            yield item

    def _walk(self, folder: _Folder, wanted: _Wanted) -> Iterator[Found | CommonPrefix]:
        """Depth first with a stack of its own: a key may have more slashes than Python has frames."""
        stack: list[Iterator[Found | _Folder | CommonPrefix]] = [self._open(folder, wanted)]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, CommonPrefix):
                yield item
            elif not wanted.reaches(item):
                continue
            elif rolled := wanted.rolled(item.key):
                if _bytes(rolled) > wanted.after_bytes and self._any(item, wanted):
                    yield CommonPrefix(rolled)
            elif isinstance(item, _Folder):
                stack.append(self._open(item, wanted))
            else:
                yield item

    def _open(self, folder: _Folder, wanted: _Wanted) -> Iterator[Found | _Folder | CommonPrefix]:
        level = self._level(folder)
        if not level.continued:
            return iter(level.plain)
        streams: list[Iterable[Found | CommonPrefix]] = [self._sorted(level.plain, wanted)]
        streams += [self._walk(rest, wanted) for rest in level.continued if wanted.reaches(rest)]
        return iter(heapq.merge(*streams, key=_sort_key))

    def _sorted(self, plain: list[Found | _Folder], wanted: _Wanted) -> Iterator[Found | CommonPrefix]:
        """The keys of a level whose folders must be merged with others."""
        for item in plain:
            rolled = wanted.rolled(item.key)
            if not wanted.reaches(item):
                continue
            if rolled and _bytes(rolled) > wanted.after_bytes and self._any(item, wanted):
                yield CommonPrefix(rolled)
            elif isinstance(item, _Folder) and not rolled:
                yield from self._walk(item, wanted)
            elif isinstance(item, Found) and not rolled:
                yield item

    def _any(self, item: Found | _Folder, wanted: _Wanted) -> bool:
        if isinstance(item, Found):
            return True
        return next(self._walk(item, _Wanted(wanted.prefix, "", "")), None) is not None

    def _level(self, folder: _Folder) -> _Level:
        try:
            modified = os.stat(folder.path).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return _Level([], [])
        with self._lock:
            known = self._levels.get((folder.path, folder.key))
        if known and known[0] == modified:
            return known[1]
        level = _scan(folder)
        if len(level.plain) >= _LARGE and time.time() - modified / 1e9 > _SETTLED:
            with self._lock:
                self._levels[(folder.path, folder.key)] = (modified, level)
                while len(self._levels) > 8:
                    self._levels.popitem(last=False)
        return level


@dataclass(frozen=True)
class _Wanted:
    prefix: str
    after: str
    delimiter: str

    @property
    def after_bytes(self) -> bytes:
        return _bytes(self.after)

    def reaches(self, item: Found | _Folder) -> bool:
        """Whether the key, or any key below the folder, can be asked for."""
        key = item.key
        if isinstance(item, Found):
            return key.startswith(self.prefix) and (not self.after or _bytes(key) > self.after_bytes)
        if not (key.startswith(self.prefix) or self.prefix.startswith(key)):
            return False
        return not self.after or self.after.startswith(key) or _bytes(key) > self.after_bytes

    def rolled(self, key: str) -> str:
        """The common prefix that swallows a key, or all keys of a folder; "" when none does."""
        if not self.delimiter or not key.startswith(self.prefix):
            return ""
        at = key.find(self.delimiter, len(self.prefix))
        return key[: at + len(self.delimiter)] if at >= 0 else ""


def _scan(folder: _Folder) -> _Level:
    plain: list[Found | _Folder] = []
    continued: list[_Folder] = []
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.endswith(MORE):
                        text = rest_of(entry.name)
                        if text is not None:
                            continued.append(_Folder(folder.key + text, entry.path))
                    elif (text := text_of(entry.name)) is not None:
                        plain.append(_Folder(f"{folder.key}{text}/", entry.path))
                elif entry.is_file(follow_symlinks=False):
                    text = text_of(entry.name.removesuffix(OBJECT))
                    if text is not None:
                        plain.append(Found(folder.key + text, entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return _Level([], [])
    plain.sort(key=lambda item: _bytes(item.key))
    return _Level(plain, continued)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _sort_key(item: Found | CommonPrefix) -> bytes:
    return _bytes(item.prefix if isinstance(item, CommonPrefix) else item.key)
