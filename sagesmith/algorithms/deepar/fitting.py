"""Fitting: prepared series become the arrays of a model. Imports torch at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms import nets
from sagesmith.algorithms.deepar.likelihoods import LIKELIHOODS
from sagesmith.algorithms.deepar.network import Network
from sagesmith.algorithms.deepar.preparing import Prepared
from sagesmith.algorithms.deepar.sampling import Epochs
from sagesmith.algorithms.deepar.threads import Workers
from sagesmith.algorithms.deepar.training import Training
from sagesmith.algorithms.deepar.windows import Cutter, View
from sagesmith.algorithms.run import Run


def fit(prepared: Prepared, settings: Mapping[str, Any], run: Run) -> dict[str, np.ndarray] | None:
    """The arrays of the network and of the view; None where the job was stopped before a first batch.

    Raises:
        ValueError: training diverged.
    """
    given = {"feature_centre": prepared.centre, "feature_spread": prepared.spread, "scale": np.array([prepared.scale])}
    view = View.of(settings, given)
    epochs = Epochs(prepared.packed.lengths, prepared.everywhere, view.context, view.horizon)
    if epochs.passes > 1:
        run.log(
            "Small number of time series. Doing %d passes over dataset with prob %.2f per epoch.",
            epochs.passes,
            epochs.probability,
        )
    team = nets.Team(run, settings["seed"])
    try:
        with Workers(run.threads, nets.flush) as workers, nets.flushed():
            network = _drawn(prepared, view, settings, workers)
            cutter = Cutter(view, prepared.packed, workers)
            training = Training(network.to(team.device), cutter, epochs, team, settings)
            training.run()
    finally:
        team.close()
    if training.best.value is None:
        return None
    return {**nets.weights_of(network), **view.arrays()}


def _drawn(prepared: Prepared, view: View, settings: Mapping[str, Any], workers: Workers) -> Network:
    sizes = settings["embedding_dimension"], settings["num_cells"], settings["num_layers"]
    likelihood = LIKELIHOODS[settings["likelihood"]]
    rate = settings["dropout_rate"]
    return Network(view.width, view.straight, prepared.cards, *sizes, likelihood, rate, workers)
