"""Request ids: random UUIDs, made without asking the system for entropy each time."""

from __future__ import annotations

import random

_RANDOM = random.Random()  # seeded by the system; an id is no secret


def request_id() -> str:
    """A fresh id in the form of a UUID, version 4."""
    text = f"{_RANDOM.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
