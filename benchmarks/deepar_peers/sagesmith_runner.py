"""Ours, for benchmarks/deepar.py: as many epochs as fit into the seconds, told by a few beforehand."""

import json
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.deepar_peers.clock import now
from sagesmith.algorithms import DeepAR
from sagesmith.algorithms.run import Run

WINDOWS = 1280  # of an epoch
ALONE = 7  # forecasts of one series
task = json.loads(Path(sys.argv[1]).read_text())
settings = {name: task[name] for name in ("time_freq", "prediction_length", "context_length", "seed")}
known = [  # arrays, as the peers' data sets have them before their time begins
    {**one, "target": np.array(one["target"][: -task["prediction_length"]])} for one in task["test"]
]
run = Run(int(os.environ["OMP_NUM_THREADS"]))


def trained(epochs):
    """A model of so many epochs, and the seconds that it took."""
    started = now()
    model = DeepAR(**settings, epochs=epochs).fit(task["train"], run=run)
    return model, now() - started


trained(1)[0].forecast(known[:1])  # loads the compiled code
begun = trained(1)[1]
epochs = max(2, round((task["seconds"] - begun) * 2 / max(1e-9, trained(3)[1] - begun)))
model, seconds = trained(epochs)
speed = {"seconds": seconds, "windows_per_second": epochs * WINDOWS / seconds}
if not task["forecasts"]:
    np.savez(sys.argv[2], **speed)
    sys.exit()
started = now()
forecast = model.forecast(known)
ahead = now() - started
alone = []
for _ in range(ALONE):
    started = now()
    model.forecast(known[:1])
    alone.append(now() - started)
np.savez(
    sys.argv[2], quantiles=np.array(list(forecast.quantiles.values())),
    milliseconds_alone=1000 * np.median(alone), **speed,
    forecasts_per_second=len(known) / ahead,
)  # fmt: skip
