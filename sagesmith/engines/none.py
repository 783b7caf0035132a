"""The engine that runs nothing: for a server that only keeps objects, logs and documents. Jobs wait for ever."""

from __future__ import annotations

from sagesmith.core.config import Config
from sagesmith.engines.base import Gang, Probe, State


class NoEngine:
    """An Engine without room for any gang."""

    def launch(self, gang: Gang) -> bool:
        return False

    def probe(self, run: str) -> Probe:
        return Probe(State.ABSENT)

    def stop(self, run: str, grace: float) -> None:
        """There is nothing to stop."""

    def address(self, run: str, host: str) -> str:
        raise LookupError(f"{host} of {run} has no address: this server's engine runs nothing")

    def forget(self, run: str) -> None:
        """There is nothing to forget."""

    def close(self) -> None:
        """There is nothing to end."""


def create(config: Config) -> NoEngine:
    return NoEngine()
