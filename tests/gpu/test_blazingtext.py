"""BlazingText on a GPU: skipgram, cbow and supervised train there and learn what they learn on processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import BlazingText
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.blazingtext_texts import drawn
from tests.algorithms.test_blazingtext_vectors import closeness

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
SMALL = {"vector_dim": 20, "buckets": 5000, "epochs": 6}


def with_gpu() -> RecordingRun:
    run = RecordingRun()
    run.gpus = 1
    return run


def seen_on_the_gpu(model: BlazingText, *data: Any) -> BlazingText:
    run = with_gpu()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    model.fit(*data, run=run)
    assert torch.cuda.max_memory_allocated() > before, "nothing was on the GPU"
    assert f"Running single machine GPU BlazingText training using {model.mode} mode." in run.lines
    return model


@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("mode", ["skipgram", "cbow"])
def test_words_of_a_topic_come_close(mode: str, subwords: bool, tmp_path: Path) -> None:
    settings = SMALL | {"sampling_threshold": 0.01, "evaluation": False}
    model = seen_on_the_gpu(BlazingText(mode=mode, subwords=subwords, **settings), drawn(2000)[0])
    within, between = closeness(model.predict)
    assert within > between + 0.4, (within, between)
    model.save(tmp_path)
    assert np.array_equal(BlazingText.load(tmp_path).predict(["wave", "unheard"]), model.predict(["wave", "unheard"]))


def test_a_classifier_learns_as_on_processors() -> None:
    settings = SMALL | {"mode": "supervised", "learning_rate": 0.2, "early_stopping": True, "epochs": 20}
    held = drawn(300, seed=1)
    run = with_gpu()
    there = BlazingText(**settings).fit(*drawn(1500), validation=held, run=run)
    here = BlazingText(**settings).fit(*drawn(1500), validation=held)
    assert min(there.score(*held), here.score(*held)) > 0.95
    assert np.abs(there.predict_proba(held[0]) - here.predict_proba(held[0])).mean() < 0.05


def test_batch_skipgram_stays_on_processors() -> None:
    run = with_gpu()
    BlazingText(mode="batch_skipgram", vector_dim=5, epochs=1).fit(drawn(50)[0], run=run)
    assert "Running single machine CPU BlazingText training using batch_skipgram mode." in run.lines
