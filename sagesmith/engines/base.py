"""Gang and Engine: what a room may ask of the place where jobs run.

An engine is a module of this package with a function `create(config: Config) -> Engine`; the setting `engine` names
it. `sagesmith.testing.check_engine` tests one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sagesmith.contract import AgentPaper


@dataclass(frozen=True)
class Gang:
    """n containers that start together and end together; one agent per paper."""

    run: str
    papers: tuple[AgentPaper, ...]
    cores: float = 0.0  # processors asked for, all hosts together; 0 (endpoints) does not hold up jobs
    memory: int = 0  # bytes, all hosts together


class State(StrEnum):
    """Where a gang stands, as far as the engine can see."""

    ABSENT = "Absent"  # never launched under this id (or forgotten)
    RUNNING = "Running"
    EXITED = "Exited"  # every agent has ended; see `codes`
    LOST = "Lost"  # some agent is gone without having ended properly; the others are being stopped


@dataclass(frozen=True)
class Probe:
    """The answer of `Engine.probe`."""

    state: State
    codes: dict[str, int] = field(default_factory=dict)  # host → the agent's own exit status, where known


class Engine(Protocol):
    """Six methods. A gang is launched under an id that was stored before, so that after a crash `probe` can tell.

    A gang lives and dies together: once an agent is lost, or has ended with a status other than 0, the engine stops
    the others.
    """

    def launch(self, gang: Gang) -> bool:
        """Starts all agents of the gang; False when there is no room for it now. Launching an id twice does nothing,
        save that it completes a launch that a crash has cut short.

        A gang that asks for more than the whole host has may run when nothing else does.

        Raises:
            ValueError: a run id or host names that cannot be file names, or no papers.
        """
        ...

    def probe(self, run: str) -> Probe:
        """What has become of a gang; never raises for an unknown id."""
        ...

    def stop(self, run: str, grace: float) -> None:
        """SIGTERM to every agent now, SIGKILL to what is left later. Returns at once; may be repeated.

        An agent gives its job `stop_grace` of its paper and then uploads what the job has left. `grace` is the time
        for the job alone; the engine gives agents some more for their uploads before it kills them. A grace of 0
        kills at once. The end is enforced even if the server dies meanwhile. An agent that had to be killed because
        of this counts as exited, with 137.
        """
        ...

    def address(self, run: str, host: str) -> str:
        """The network address (without port) at which `host` of the gang is reached from the server."""
        ...

    def forget(self, run: str) -> None:
        """Deletes what the engine keeps of a gang that has ended; nothing happens for an unknown id.

        Raises:
            ValueError: it still runs.
        """
        ...

    def close(self) -> None:
        """The server ends in good order: endpoints, which answer only through it, end and are forgotten.

        The next server finds them absent and launches them again. Jobs go on without a server.
        """
        ...
