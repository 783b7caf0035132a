"""Rooms listen to rooms: `@on("TrainingJob", "Completed")` runs in the transaction that sets that status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context

Listener = Callable[["Document", "Context"], None]

_LISTENERS: dict[tuple[str, str], list[Listener]] = defaultdict(list)


def on(kind: str, status: str) -> Callable[[Listener], Listener]:
    """Registers a listener for documents of `kind` that reach `status`."""

    def register(listener: Listener) -> Listener:
        _LISTENERS[kind, status].append(listener)
        return listener

    return register


def emit(document: Document, ctx: Context) -> None:
    """Tells every listener that `document` has just reached its status."""
    for listener in _LISTENERS[document.kind, document.status]:
        listener(document, ctx)
