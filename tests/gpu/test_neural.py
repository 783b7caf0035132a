"""The neural algorithms on a GPU: they train there, learn what they learn on the CPU, and answer on either."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import NTM, DeepAR, Object2Vec, Seq2Seq, nets
from sagesmith.algorithms.base import Algorithm
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms import deepar_series, ntm_documents, object2vec_pairs, seq2seq_sentences

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")


@dataclass(frozen=True)
class Case:
    """An algorithm, its small task, its answers as one array, and a number that is good from `enough` on."""

    make: Callable[[], Algorithm]
    data: tuple[Any, ...]
    answers: Callable[[Any], np.ndarray]
    quality: Callable[[Any], float]
    enough: float


SERIES = deepar_series.drawn()
PAIRS, LABELS = object2vec_pairs.drawn(600)
COUNTS, _ = ntm_documents.drawn(1500)
SENTENCES = seq2seq_sentences.backwards(300)
CASES = {
    "deepar": Case(
        lambda: DeepAR(**deepar_series.SETTINGS),
        (SERIES,),
        lambda model: model.forecast(deepar_series.shortened(SERIES, 12), num_samples=400).mean,
        lambda model: model.score(SERIES),
        -0.1,
    ),
    "ntm": Case(
        lambda: NTM(num_topics=5, epochs=10, optimizer="adam", mini_batch_size=64),
        (COUNTS,),
        lambda model: model.predict(COUNTS[:20]),
        lambda model: float(len({word for topic in model.topics(5) for word in topic})),
        20.0,
    ),
    "object2vec": Case(
        lambda: Object2Vec(**object2vec_pairs.SMALL | {"epochs": 15}),
        (PAIRS, LABELS),
        lambda model: model.predict_proba(PAIRS[:20]),
        lambda model: model.score(PAIRS, LABELS),
        0.85,
    ),
    "object2vec hcnn": Case(
        lambda: Object2Vec(**object2vec_pairs.SMALL | {"epochs": 10, "enc0_network": "hcnn"}),
        (PAIRS, LABELS),
        lambda model: model.embed(in0=[pair[0] for pair in PAIRS[:20]]),
        lambda model: model.score(PAIRS, LABELS),
        0.7,
    ),
    "object2vec bilstm": Case(
        lambda: Object2Vec(**object2vec_pairs.SMALL | {"epochs": 15, "enc0_network": "bilstm"}),
        (PAIRS, LABELS),
        lambda model: model.predict_proba(PAIRS[:20]),
        lambda model: model.score(PAIRS, LABELS),
        0.7,
    ),
    "object2vec row_sparse": Case(
        lambda: Object2Vec(**object2vec_pairs.SMALL | {"epochs": 15, "token_embedding_storage_type": "row_sparse"}),
        (PAIRS, LABELS),
        lambda model: model.predict_proba(PAIRS[:20]),
        lambda model: model.score(PAIRS, LABELS),
        0.85,
    ),
} | {
    f"seq2seq {encoder}": Case(
        lambda encoder=encoder: Seq2Seq(  # type: ignore[misc]
            **seq2seq_sentences.SMALL | {"encoder_type": encoder, "max_num_batches": 400}
        ),
        (*SENTENCES,),
        lambda model: model.network_.encoder.embedding.weight.detach().cpu().numpy(),
        lambda model: model.score(*SENTENCES),
        0.2,
    )
    for encoder in ("rnn", "cnn")
}


def trained(case: Case, gpus: int) -> tuple[Any, RecordingRun]:
    run = RecordingRun()
    run.gpus = gpus
    more = {"validation": case.data} if case.make().name == "seq2seq" else {}
    return case.make().fit(*case.data, run=run, **more), run


@pytest.mark.parametrize("name", CASES)
def test_training_on_the_gpu_learns_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    model, run = trained(case, gpus=1)
    assert torch.cuda.max_memory_allocated() > before, "nothing was on the GPU"
    assert not any("cannot use them" in line for line in run.lines)
    here, there = case.quality(model), case.quality(trained(case, gpus=0)[0])
    assert min(here, there) >= case.enough, (here, there)


ON_CPU = """
import sys, numpy as np
import tests.gpu.test_neural as gpu
case = gpu.CASES[sys.argv[1]]
model = type(case.make()).load(__import__("pathlib").Path(sys.argv[2]))
assert not gpu.torch.cuda.is_available()
np.save(sys.argv[3], case.answers(model))
"""


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_the_gpu_answers_alike_on_both(name: str, tmp_path: Path) -> None:
    case, folder, file = CASES[name], tmp_path / "model", tmp_path / "answers.npy"
    model, _ = trained(case, gpus=1)
    model.save(folder)
    loaded = type(model).load(folder)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", ON_CPU, name, str(folder), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    elsewhere = np.load(file)
    rough = 0.05 if name == "deepar" else 2e-3  # forecasts are means of other random paths
    for answers in (case.answers(model), case.answers(loaded)):
        assert np.abs(answers - elsewhere).max() <= rough * np.abs(elsewhere).max()


def given(monkeypatch: pytest.MonkeyPatch, count: int) -> list[torch.device]:
    """The GPUs that runs train on from now on; where there are fewer than `count`, one stands for several."""
    devices = [torch.device("cuda", number % torch.cuda.device_count()) for number in range(count)]
    monkeypatch.setattr(nets, "every_device", lambda run: devices)
    return devices


@pytest.mark.parametrize("name", CASES)
def test_all_gpus_of_a_host_share_a_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    devices, before = given(monkeypatch, 2), []
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
        before.append(torch.cuda.max_memory_allocated(device))
    model, _ = trained(CASES[name], gpus=2)
    for device, memory in zip(devices, before, strict=True):
        assert torch.cuda.max_memory_allocated(device) > memory, f"nothing was on {device}"
    assert CASES[name].quality(model) >= CASES[name].enough


def test_seq2seq_takes_the_steps_of_one_gpu_on_several(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = seq2seq_sentences.SMALL | {"optimizer_type": "sgd", "learning_rate": 0.5, "max_num_batches": 30}
    found = []
    for count in (1, 3):
        given(monkeypatch, count)
        run = RecordingRun()
        run.gpus = count
        model = Seq2Seq(**settings).fit(*SENTENCES, validation=SENTENCES, run=run)
        found.append(nets.weights_of(model.network_))
    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("name", ["deepar", "ntm", "object2vec", "seq2seq rnn"])
def test_a_stopped_run_goes_on_on_the_gpu(name: str, tmp_path: Path) -> None:
    class Stopped(RecordingRun):
        """A run that is asked to stop after a while."""

        asked, after = 0, 10**9

        @property
        def stopping(self) -> bool:
            self.asked += 1
            return self.asked > self.after

    case = CASES[name]
    more = {"validation": case.data} if name.startswith("seq2seq") else {}
    for after in (60, 10**9):
        run = Stopped()
        run.gpus, run.after, run.checkpoints = 1, after, tmp_path
        model = case.make().fit(*case.data, run=run, **more)
    assert any("heckpoint" in line or "esum" in line or "goes on" in line for line in run.lines), run.lines[:20]
    assert case.quality(model) >= case.enough


@pytest.mark.parametrize("network", ["pooled_embedding", "hcnn", "bilstm"])
@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_object2vec_learns_on_two_gpus_what_it_learns_on_one(
    network: str, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one GPU twice where there is no second. LSTMs of cuDNN may round to TF32, so losses are level, not equal."""
    losses = []
    for count in (1, 2):
        given(monkeypatch, count)
        run = RecordingRun()
        run.gpus = count
        settings = {"enc0_network": network, "token_embedding_storage_type": storage, "negative_sampling_rate": 2}
        model = Object2Vec(**object2vec_pairs.SMALL | settings | {"epochs": 3}).fit(PAIRS, LABELS, run=run)
        losses.append([float(line.rpartition("=")[2]) for line in run.lines if "train cross_entropy" in line])
        assert np.isfinite(model.predict_proba(PAIRS[:20])).all()
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_the_preferred_mode_says_what_is_in_the_gpus_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = trained(CASES["object2vec"], gpus=1)
    model.save(tmp_path)
    for mode, dense in (("embedding", "cpu"), ("classification", "cuda"), ("", "cuda")):
        monkeypatch.setenv("INFERENCE_PREFERRED_MODE", mode)
        loaded = Object2Vec.load(tmp_path)
        places = {weight.device.type for weight in loaded.network_.mlp.parameters()}
        assert (places, loaded.network_.device.type) == ({dense}, "cuda")
        assert np.allclose(loaded.predict_proba(PAIRS[:20]), model.predict_proba(PAIRS[:20]), atol=1e-4)
