"""Plan: what training takes besides data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sagesmith.algorithms.run import Run
from sagesmith.algorithms.xgboost import rules


@dataclass
class Plan:
    """What one call of xgboost.train needs besides data."""

    parameters: dict[str, Any]
    settings: Mapping[str, Any]
    objective: str
    native: list[str]  # metrics for xgboost; none: the objective's own
    custom: list[str]
    run: Run

    @property
    def stopping_metric(self) -> str | None:
        """The tuning objective if there is one, else the last of eval_metric, else None."""
        named = self.settings["eval_metric"] or [None]
        last = rules.tuning_objective(self.settings) or named[-1]
        return None if last is None else str(last)

    @property
    def classes(self) -> int:
        return int(self.settings["num_class"] or 2) if self.objective.startswith("multi:") else 2
