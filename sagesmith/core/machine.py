"""State machines as data: a Machine names, for each state, the function that does the next small thing.

    machine = Machine(jobs, Starting=starting, Watching=watching, Finishing=finishing)

A step is `step(document, ctx) -> Move`. It may be repeated after a crash at any point, so whatever it does outside
the database must be safe to do twice; the reconciler commits its Move with compare-and-swap on the version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagesmith.core.operation import Context


@dataclass
class Document:
    """One resource: what Describe shows (`body`), what only we need (`private`), and where it stands."""

    kind: str  # "TrainingJob"
    account: str
    region: str
    name: str
    arn: str
    body: dict[str, Any]  # AWS's members, ready for Describe
    private: dict[str, Any] = field(default_factory=dict)  # ours: run ids, counters
    status: str = ""  # AWS's status, the column that StatusEquals filters
    state: str = ""  # the machine's state; "" for a plain record
    parent: str = ""  # e.g. the tuning job's ARN
    due_at: float | None = None  # when the machine wants its next step; None: never
    created_at: float = 0.0
    modified_at: float = 0.0
    version: int = 0  # counts commits; compare-and-swap key
    id: int = 0  # the database's row; never used twice, unlike a name


@dataclass(frozen=True)
class Move:
    """What a step decided. `None` leaves a field as it is, but `after=None` ends the machine: nothing is due."""

    state: str | None = None
    status: str | None = None
    body: Mapping[str, Any] | None = None  # members to set (shallow); a value of None removes the member
    private: Mapping[str, Any] | None = None  # likewise
    after: float | None = 0.0  # seconds from now until the next step; of no effect in the state ""
    delete: bool = False  # the document itself goes


Step = Callable[[Document, "Context"], Move]
GiveUp = Callable[[Document, str, "Context"], Move]

MACHINES: dict[str, Machine] = {}


class Machine:
    """The chart of one kind of document; importing the room registers it.

    Args:
        kind: the kind of the documents that it moves.
        failed: decides what becomes of a document whose step raised an exception again and again; it is given the
            reason in words. Without it the step is tried for ever, at growing intervals.
        steps: state -> function.
    """

    def __init__(self, kind: str, *, failed: GiveUp | None = None, **steps: Step) -> None:
        self.kind = kind
        self.failed = failed
        self.steps = steps
        MACHINES[kind] = self

    def step(self, document: Document, ctx: Context) -> Move:
        """Runs the step of the document's state.

        Raises:
            LookupError: the document stands in a state that the chart lacks.
        """
        step = self.steps.get(document.state)
        if step is None:
            raise LookupError(f"{self.kind} {document.name} stands in {document.state!r}, which has no step")
        return step(document, ctx)
