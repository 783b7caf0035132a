"""Object paths: which file below a bucket's folder holds a key, and the key that a file name spells.

A key is split at "/" and every part becomes a file name that reads the same, save what a file system cannot hold:

    %, control characters       %25, %0A, …         . and ..            %2E, %2E%2E
    the empty part (a//b, a/)   %                   parts over 247 bytes continued in folders named …%+

An object whose file name is taken by a folder ("a" beside "a/b") is the file `a%.object`. A "%" in a key is always
written %25, so these names cannot be meant by any other key.
"""

from __future__ import annotations

import re

OBJECT = "%.object"  # ends the name of an object's file where a folder has the plain name
MORE = "%+"  # ends the name of a folder that holds the rest of a long part
EMPTY = "%"
_LONGEST = 255 - len(OBJECT)  # bytes; 255 is the limit of every common file system

_UNSAFE = re.compile(r"[\x00-\x1f\x7f%]")
_DOTS = {".", ".."}
_ESCAPE = re.compile(r"%([0-9A-F]{2})")


def names_of(key: str) -> list[str]:
    """The folders and, last, the plain file name of a key, to be joined below the bucket's folder."""
    names: list[str] = []
    for part in key.split("/"):
        names.extend(_part_names(part))
    return names


def _part_names(part: str) -> list[str]:
    if part == "":
        return [EMPTY]
    text = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", part)
    names = []
    while len(text.encode()) > _LONGEST:
        cut = _cut(text)
        names.append(text[:cut] + MORE)
        text = text[cut:]
    return [*names, text.replace(".", "%2E") if text in _DOTS else text]


def _cut(text: str) -> int:
    """How many characters fit into one name without splitting an escape or a character."""
    cut = len(text.encode()[:_LONGEST].decode(errors="ignore"))
    if "%" in text[cut - 2 : cut]:
        cut = text.rindex("%", cut - 2, cut)
    return cut


def text_of(name: str) -> str | None:
    """The text that one file name stands for, without markers; None when no key is written so."""
    if name == EMPTY:
        return ""
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text if text and _part_names(text)[-1] == name else None


def rest_of(name: str) -> str | None:
    """The text of a folder that holds the rest of a long part (its name ends in MORE); None when it is none."""
    stem = name.removesuffix(MORE)
    if stem == name or len(stem.encode()) <= _LONGEST - 6:
        return None
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), stem)
