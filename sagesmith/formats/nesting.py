"""load_json: JSON from strangers, with a limit on nesting and every fault as a DataError."""

from __future__ import annotations

import json
import re
from typing import Any

from sagesmith.formats.errors import DataError

DEEPEST = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[\[\]{}]")


def load_json(text: bytes, where: str) -> Any:
    """The value of a JSON text in UTF-8; NaN and Infinity are known.

    Raises:
        DataError: not JSON, or nested deeper than 64.
    """
    if text.count(b"[") + text.count(b"{") > DEEPEST and _depth(text) > DEEPEST:
        raise DataError(f"{where}: JSON nested deeper than {DEEPEST}")
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from None


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRING.sub(b"", text) if b'"' in text else text):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
