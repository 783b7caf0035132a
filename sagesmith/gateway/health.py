"""Paths of our own, below `/_sagesmith/`: no bucket's name may begin with an underscore."""

from __future__ import annotations

import json

import sagesmith
from sagesmith.core.operation import World
from sagesmith.gateway.http import Incoming, Outgoing

PREFIX = b"/_sagesmith/"


def answer(incoming: Incoming, world: World) -> Outgoing:
    """`GET /_sagesmith/health` says that the server answers, and its version; anything else there is not found."""
    if incoming.raw_path != PREFIX + b"health":
        return _json(404, {"error": "NotFound", "message": "There is /_sagesmith/health only."})
    if incoming.method not in ("GET", "HEAD"):
        return _json(405, {"error": "MethodNotAllowed", "message": "Ask with GET or HEAD."})
    return _json(200, {"status": "ok", "version": sagesmith.__version__, "time": world.clock.now()})


def _json(status: int, content: dict[str, object]) -> Outgoing:
    return Outgoing(status, {"content-type": "application/json"}, json.dumps(content).encode())
