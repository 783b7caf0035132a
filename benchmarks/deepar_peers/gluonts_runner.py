"""GluonTS's DeepAR (torch), for benchmarks/deepar.py: its defaults, stopped after the seconds."""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from gluonts.dataset.common import ListDataset
from gluonts.torch.model.deepar import DeepAREstimator
from lightning.pytorch import Callback, seed_everything

from benchmarks.deepar_peers.clock import now

ALONE = 7  # forecasts of one series
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
task = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
seed_everything(task["seed"])
freq = {"H": "h"}.get(task["time_freq"], task["time_freq"])
steps = task["prediction_length"]


def listed(records, cut=0):
    rows = [
        {"start": r["start"], "target": r["target"][: len(r["target"]) - cut], "feat_static_cat": r["cat"]}
        for r in records
    ]
    return ListDataset(rows, freq=freq)


class Stop(Callback):
    """Ends training once so many seconds are used."""

    def __init__(self, seconds):
        self.end = now() + seconds

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = now() >= self.end


def estimator(limit):
    return DeepAREstimator(
        freq=freq, prediction_length=steps, context_length=task["context_length"], num_feat_static_cat=1,
        cardinality=[len(task["train"])], batch_size=128, num_batches_per_epoch=10,
        trainer_kwargs={
            "max_epochs": 100_000 if limit else 1, "callbacks": [Stop(limit)] if limit else [],
            "enable_progress_bar": False, "logger": False, "enable_model_summary": False, "enable_checkpointing": True,
        },
    )  # fmt: skip


train, known = listed(task["train"]), listed(task["test"], steps)
estimator(0).train(train)
started = now()
made = estimator(task["seconds"]).train_model(train)
seconds = now() - started
speed = {"seconds": seconds, "windows_per_second": made.trainer.global_step * 128 / seconds}
if not task["forecasts"]:
    np.savez(sys.argv[2], **speed)
    sys.exit()
started = now()
found = list(made.predictor.predict(known, num_samples=100))
ahead = now() - started
alone = []
for _ in range(ALONE):
    started = now()
    list(made.predictor.predict(known[:1], num_samples=100))
    alone.append(now() - started)
levels = [round(0.1 * k, 1) for k in range(1, 10)]
np.savez(
    sys.argv[2], quantiles=np.array([[f.quantile(level) for f in found] for level in levels]),
    milliseconds_alone=1000 * np.median(alone),
    **speed, forecasts_per_second=len(found) / ahead,
)  # fmt: skip
