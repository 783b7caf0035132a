"""neuralforecast's DeepAR, for benchmarks/deepar.py: as many steps as fit into the seconds."""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import DistributionLoss
from neuralforecast.models import DeepAR

from benchmarks.deepar_peers.clock import now

ALONE = 7  # forecasts of one series
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
task = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
freq = {"H": "h"}.get(task["time_freq"], task["time_freq"])
steps = task["prediction_length"]


def framed(records, cut=0):
    parts = []
    for number, record in enumerate(records):
        target = record["target"][: len(record["target"]) - cut]
        times = pandas.date_range(record["start"], periods=len(target), freq=freq)
        parts.append(pandas.DataFrame({"unique_id": f"{number:05d}", "ds": times, "y": target}))
    return pandas.concat(parts)


def model(count):
    return DeepAR(
        h=steps, input_size=task["context_length"], lstm_n_layers=2, lstm_hidden_size=40, trajectory_samples=100,
        loss=DistributionLoss("StudentT", quantiles=[round(0.1 * k, 1) for k in range(1, 10)], return_params=False),
        max_steps=count, windows_batch_size=128, batch_size=32, learning_rate=0.001, scaler_type="standard",
        random_seed=task["seed"], enable_progress_bar=False, logger=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip


train, known = framed(task["train"]), framed(task["test"], steps)
NeuralForecast(models=[model(5)], freq=freq).fit(train)
started = now()
NeuralForecast(models=[model(20)], freq=freq).fit(train)
count = max(20, int(task["seconds"] / ((now() - started) / 20)))
made = NeuralForecast(models=[model(count)], freq=freq)
started = now()
made.fit(train)
seconds = now() - started
speed = {"seconds": seconds, "windows_per_second": count * 128 / seconds}
if not task["forecasts"]:
    np.savez(sys.argv[2], **speed)
    sys.exit()
started = now()
table = made.predict(known).sort_values(["unique_id", "ds"], kind="stable")
ahead = now() - started
one, alone = framed(task["test"][:1], steps), []
for _ in range(ALONE):
    started = now()
    made.predict(one)
    alone.append(now() - started)
columns = [c for c in table.columns if "-lo-" in c or "-hi-" in c or c.endswith("-median")]  # 0.1, 0.2 … 0.9
np.savez(
    sys.argv[2], quantiles=table[columns].to_numpy().T.reshape(9, len(task["test"]), steps),
    milliseconds_alone=1000 * np.median(alone),
    **speed, forecasts_per_second=len(task["test"]) / ahead,
)  # fmt: skip
