"""Patience: SageMaker's rule for when NTM has learnt enough, with its lines in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.algorithms.run import Run


class Patience:
    """An epoch is bad whose loss is not under the least of the last `epochs` losses by more than `tolerance`, relative
    to it; as many bad epochs in a row end training.
    """

    def __init__(self, epochs: int, tolerance: float) -> None:
        self.epochs, self.tolerance = epochs, tolerance
        self.losses: list[float] = []
        self.bad = 0

    @property
    def exhausted(self) -> bool:
        return self.bad >= self.epochs

    def judge(self, loss: float, run: Run) -> None:
        """Notes the loss of an epoch."""
        if self.losses:
            least = min(self.losses)
            run.log(
                "patience losses:%s min patience loss:%s current loss:%s absolute loss difference:%s",
                self.losses, least, loss, abs(least - loss),
            )  # fmt: skip
            self.bad = 0 if least - loss > self.tolerance * abs(least) else self.bad + 1
            if self.bad:
                run.log("Bad epoch: loss has not improved (enough). Bad count:%d", self.bad)
        self.losses = [*self.losses, loss][-self.epochs :]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"losses": self.losses, "bad": self.bad}

    def take(self, state: Mapping[str, Any]) -> None:
        self.losses, self.bad = list(state["losses"]), int(state["bad"])
