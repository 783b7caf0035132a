"""BlazingText on a GPU: skipgram, cbow and supervised train there and learn what they learn on processors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.blazingtext import devices_torch, hosts, rows_torch
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


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("mode", ["skipgram", "cbow"])
def test_all_gpus_learn_as_much_as_one(mode: str, subwords: bool) -> None:
    settings = SMALL | {"mode": mode, "subwords": subwords, "sampling_threshold": 0.01, "evaluation": False}
    gaps = []
    for count in (1, torch.cuda.device_count()):
        run = RecordingRun()
        run.gpus = count
        for number in range(count):
            torch.cuda.reset_peak_memory_stats(number)
        within, between = closeness(BlazingText(**settings).fit(drawn(3000)[0], run=run).predict)
        gaps.append(within - between)
        assert all(torch.cuda.max_memory_allocated(number) for number in range(count)), "a GPU held nothing"
    assert f"The host has {count} GPUs; {count} of them used" in run.lines
    assert gaps[1] > 0.9 * gaps[0]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_copies_on_gpus_are_the_same_after_a_meeting() -> None:
    places = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    start = np.random.default_rng(0).normal(size=(1001, 4)).astype(np.float32)
    moves = np.random.default_rng(1).normal(size=(len(places), 1001, 4)).astype(np.float32)
    tables = [rows_torch.Table(start, place) for place in places]
    copies = devices_torch.Copies(tables)
    for table, move, place in zip(tables, moves, places, strict=True):
        table.values += torch.from_numpy(move).to(place)
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(copies.join, range(len(places))))
        list(pool.map(copies.take, range(len(places))))
    for table in tables:
        assert torch.equal(table.values.cpu(), tables[0].values.cpu())
        assert np.allclose(table.values.cpu(), start + hosts.joined(list(moves)), atol=1e-5)


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
