"""Values for a botocore shape, made from a seed: every optional member is there or not, within the model's limits."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

DEPTH = 5
_TEXT = string.ascii_letters + string.digits + " _-./:+=@é漢<&>\"'\\\t"


def value_of(shape: Shape, rng: random.Random, depth: int = 0, *, header: bool = False) -> Any:
    """A value; below DEPTH only required members and empty collections. `header`: text that a header can carry."""
    if isinstance(shape, StructureShape):
        return structure_of(shape, rng, depth)
    if isinstance(shape, ListShape):
        size = rng.randint(1, 3) if depth < DEPTH else 1
        return [value_of(shape.member, rng, depth + 1, header=header) for _ in range(size)]
    if isinstance(shape, MapShape):
        size = rng.randint(1, 3) if depth < DEPTH else 1
        return {
            value_of(shape.key, rng, depth + 1, header=header): value_of(shape.value, rng, depth + 1, header=header)
            for _ in range(size)
        }
    return _scalar(shape, rng, header)


def structure_of(shape: StructureShape, rng: random.Random, depth: int) -> dict[str, Any]:
    names = list(shape.members)
    if getattr(shape, "is_tagged_union", False):
        names = [rng.choice(names)]
    elif depth >= DEPTH:
        names = list(shape.required_members)
    elif depth >= 2:
        names = [name for name in names if name in shape.required_members or rng.random() < 0.4]
    result = {}
    for name in names:
        member = shape.members[name]
        if depth > 12 or member.serialization.get("eventstream"):
            continue
        in_header = member.serialization.get("location") in ("header", "headers", "uri", "querystring")
        result[name] = value_of(member, rng, depth + 1, header=in_header)
    return result


def _scalar(shape: Shape, rng: random.Random, header: bool) -> Any:
    kind = shape.type_name
    if "enum" in shape.metadata:
        return rng.choice(shape.metadata["enum"])
    if kind == "string":
        letters = string.ascii_letters + string.digits + "-._~ %/+" if header else _TEXT
        text = "".join(rng.choice(letters) for _ in range(rng.randint(3, 12)))
        return f"a{text}z" if header else text
    if kind in ("integer", "long"):
        return rng.randint(0, 2**31 - 1)
    if kind in ("float", "double"):
        return rng.choice([0.5, -2.25, 1e-9, 123456.789])
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "timestamp":
        return datetime.fromtimestamp(rng.randint(0, 2_000_000_000), UTC)
    return bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
