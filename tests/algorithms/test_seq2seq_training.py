"""Seq2Seq learns, stops when it should, goes on from checkpoints, and translates what is most probable."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import Seq2Seq, nets
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.seq2seq.beam import limits_of, translate
from sagesmith.algorithms.seq2seq.bleu import corpus_bleu
from sagesmith.algorithms.seq2seq.network import Network, initialise
from sagesmith.algorithms.seq2seq.schedules import Schedule
from sagesmith.algorithms.seq2seq.sentences import Sentences
from sagesmith.algorithms.seq2seq.vocabulary import BEGIN, END, PAD
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.seq2seq_sentences import SMALL, backwards

FEW = backwards(60)
HELD = backwards(20, seed=1)


class Recording(RecordingRun):
    """A run that may have checkpoints and is asked to stop after some of them."""

    def __init__(self, checkpoints: Path | None = None, stop_after: int | None = None) -> None:
        super().__init__()
        self.done = 0.0
        self.checkpoints, self._stop_after = checkpoints, stop_after

    @property
    def stopping(self) -> bool:
        return self._stop_after is not None and len(self.values("perplexity")) >= self._stop_after

    def progress(self, done: int, total: int, records_per_second: float | None = None) -> None:
        self.done = done / total

    def values(self, name: str) -> list[float]:
        found = [line for line in self.lines if f"validation {name} <" in line]
        return [float(line.rpartition("=")[2]) for line in found]


def fitted(run: Run | None = None, **settings: Any) -> Seq2Seq:
    given = SMALL | {"max_num_epochs": 2, "checkpoint_frequency_num_batches": 2} | settings
    return Seq2Seq(**given).fit(*FEW, validation=HELD, run=run)


def weights(model: Seq2Seq) -> dict[str, np.ndarray]:
    return nets.weights_of(model.network_)


def same(a: Seq2Seq, b: Seq2Seq) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(weights(a).values(), weights(b).values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_epochs": 8},
        {"encoder_type": "cnn", "decoder_type": "cnn", "num_layers_decoder": 2, "max_num_epochs": 8},
        {"rnn_cell_type": "gru", "rnn_attention_type": "bilinear", "num_layers_decoder": 2, "max_num_epochs": 8},
    ],
)
def test_it_learns_to_say_words_backwards(settings: dict[str, Any]) -> None:
    held, run = backwards(60, seed=1), Recording()
    model = Seq2Seq(**(SMALL | settings)).fit(*backwards(800), validation=held, run=run)
    assert model.score(*held) > 0.8
    assert run.values("perplexity")[-1] < 1.5
    assert run.values("accuracy")[-1] > 0.9


def test_attention_looks_at_the_word_that_is_said() -> None:
    model = Seq2Seq(**(SMALL | {"max_num_epochs": 8})).fit(*backwards(800), validation=HELD)
    (said, matrix) = model.translate(["w1 w2 w3 w4 w5"], matrix=True)[0]
    assert said == ["W5", "W4", "W3", "W2", "W1"]
    assert matrix is not None
    assert matrix.shape == (5, 5)
    np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-5)
    assert abs(matrix.argmax(1) - [4, 3, 2, 1, 0]).max() <= 1


def test_one_seed_one_model() -> None:
    assert same(fitted(), fitted())
    assert not same(fitted(), fitted(seed=1))


def test_dropout_is_for_learning_only() -> None:
    model = fitted(embed_dropout_source=0.5, rnn_decoder_hidden_dropout=0.5, embed_dropout_target=0.5)
    assert model.predict(HELD[0]) == model.predict(HELD[0])
    assert not same(model, fitted())


@pytest.mark.parametrize("settings", [{}, {"optimizer_type": "sgd", "momentum": 0.9, "embed_dropout_source": 0.2}])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = fitted(max_num_epochs=4, **settings)
    fitted(Recording(tmp_path, stop_after=3), max_num_epochs=4, **settings)
    run = Recording(tmp_path)
    resumed = fitted(run, max_num_epochs=4, **settings)
    assert "Training goes on after checkpoint [3]: 6 updates" in run.lines
    assert same(whole, resumed)


def test_a_run_that_was_killed_after_its_last_checkpoint_learns_no_more(tmp_path: Path) -> None:
    settings = {"max_num_epochs": None, "learning_rate": 0.3, "checkpoint_threshold": 2, "clip_gradient": -1}
    whole = fitted(Recording(tmp_path), **settings)
    run = Recording(tmp_path)
    assert same(fitted(run, **settings), whole)
    assert run.values("perplexity") == []


def test_a_job_with_more_epochs_goes_on_from_one_with_fewer(tmp_path: Path) -> None:
    fitted(Recording(tmp_path), max_num_epochs=2)
    run = Recording(tmp_path)
    assert same(fitted(run, max_num_epochs=4, min_num_epochs=1), fitted(max_num_epochs=4))
    assert any(line.startswith("Training goes on after checkpoint [") for line in run.lines)


def test_a_checkpoint_of_other_settings_is_left_aside(tmp_path: Path) -> None:
    fitted(Recording(tmp_path, stop_after=1))
    run = Recording(tmp_path)
    assert same(fitted(run, learning_rate=0.02), fitted(learning_rate=0.02))
    assert any("it is of a job with other learning_rate" in line for line in run.lines)


def test_a_stopped_run_leaves_its_best_model() -> None:
    run = Recording(stop_after=2)
    model = fitted(run, max_num_epochs=50)
    assert len(run.values("perplexity")) == 2
    assert run.done < 0.1
    assert "Checkpoint [2] was the best" in run.lines[-1]
    assert len(model.predict(HELD[0])) == len(HELD[0])


def test_training_ends_without_improvement_and_gives_the_best() -> None:
    run = Recording()
    fitted(run, max_num_epochs=None, learning_rate=0.3, checkpoint_threshold=2, clip_gradient=-1)
    values = run.values("perplexity")
    assert values.index(min(values)) == len(values) - 3
    assert f"Checkpoint [{len(values) - 2}] was the best: perplexity {min(values)}" in run.lines
    assert any("No improvement of perplexity for 2 checkpoints" in line for line in run.lines)


def test_limits_of_batches_and_epochs() -> None:
    for settings, checkpoints in (
        ({"max_num_batches": 5, "max_num_epochs": None}, 3),  # after 2, 4, and at the end
        ({"max_num_epochs": 3, "checkpoint_threshold": 1, "learning_rate": 1.0}, 6),  # whatever gets worse
        ({"max_num_epochs": None, "min_num_epochs": 3, "checkpoint_threshold": 1, "learning_rate": 1.0}, 6),
    ):
        run = Recording()
        fitted(run, **settings)
        assert len(run.values("perplexity")) == checkpoints, settings


@pytest.mark.parametrize("metric", ["accuracy", "bleu"])
def test_another_metric_decides(metric: str) -> None:
    run = Recording()
    fitted(run, optimized_metric=metric, bleu_sample_size=-1, max_num_epochs=4, training_metric="accuracy")
    values = run.values(metric)
    assert f"was the best: {metric} {max(values)}" in "".join(run.lines)
    assert any("Train-accuracy=" in line for line in run.lines)


def test_bleu_needs_sentences() -> None:
    with pytest.raises(HyperparameterError, match="optimized_metric is bleu, but bleu_sample_size is 0"):
        Seq2Seq(optimized_metric="bleu").validate()


def test_speed_is_told_every_50_batches() -> None:
    run = Recording()
    fitted(run, batch_size=1, max_num_epochs=1, checkpoint_frequency_num_batches=100)
    told = [line for line in run.lines if "samples/sec" in line]
    assert len(told) == 1
    assert told[0].startswith("Epoch[0] Batch [50]\tSpeed: ")


def test_divergence_is_told() -> None:
    with pytest.raises(ValueError, match="training diverged"):
        fitted(learning_rate=1e30, optimizer_type="sgd", clip_gradient=-1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_every_optimizer_learns(optimizer: str) -> None:
    run = Recording()
    fitted(run, optimizer_type=optimizer, learning_rate=0.5 if optimizer == "sgd" else 0.01, max_num_epochs=4)
    values = run.values("perplexity")
    assert values[-1] < values[0] < 20


# -- several devices ---------------------------------------------------------------------------------------------
def on_devices(monkeypatch: pytest.MonkeyPatch, count: int, run: Run | None = None, **settings: Any) -> Seq2Seq:
    with monkeypatch.context() as patched:
        patched.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * count)
        return fitted(run, **settings)


@pytest.mark.parametrize("devices", [2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"training_metric": "accuracy", "optimizer_type": "sgd", "learning_rate": 0.5, "momentum": 0.5},
        {"batch_size": 59, "num_layers_encoder": 2, "rnn_cell_type": "gru"},  # a last batch of one sentence
        {"encoder_type": "cnn", "decoder_type": "cnn", "bucketing_enabled": False, "clip_gradient": -1},
    ],
)
def test_several_devices_learn_what_one_learns(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], devices: int
) -> None:
    """Sentences differ in length, so that parts have other numbers of rows and of tokens."""
    alone, together = Recording(), Recording()
    one = fitted(alone, bucket_width=100, **settings)
    several = on_devices(monkeypatch, devices, together, bucket_width=100, **settings)
    for name, expected in weights(one).items():
        np.testing.assert_allclose(weights(several)[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)
    told = [[line for line in run.lines if " Train-" in line] for run in (alone, together)]
    assert len(told[0]) == len(told[1]) > 0
    for here, there in zip(*told, strict=True):
        assert here.split("=")[0] == there.split("=")[0]
        assert float(there.split("=")[1]) == pytest.approx(float(here.split("=")[1]), rel=1e-4)


def test_a_killed_run_goes_on_on_several_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = on_devices(monkeypatch, 2, max_num_epochs=4)
    on_devices(monkeypatch, 2, Recording(tmp_path, stop_after=3), max_num_epochs=4)
    run = Recording(tmp_path)
    assert same(whole, on_devices(monkeypatch, 2, run, max_num_epochs=4))
    assert "Training goes on after checkpoint [3]: 6 updates" in run.lines


# -- schedules, BLEU, beams ------------------------------------------------------------------------------------


def schedule(kind: str, **settings: Any) -> Schedule:
    given = {"lr_scheduler_type": kind, "learning_rate": 0.1, "checkpoint_frequency_num_batches": 10, **settings}
    model = Seq2Seq(**given)
    model.validate()
    return Schedule(model.settings)


def test_rates_fall_to_half_after_the_half_life() -> None:
    for kind in ("fixed_rate_inv_t", "fixed_rate_inv_sqrt_t"):
        made = schedule(kind, fixed_rate_lr_half_life=3)
        assert (made.rate(0), made.rate(30)) == (0.1, pytest.approx(0.05))
        assert not made.judged(False)
    assert schedule("fixed_rate_inv_t").rate(200) == pytest.approx(0.1 / 3)
    assert schedule("fixed_rate_inv_sqrt_t").rate(200) == pytest.approx(0.1 / 7**0.5)


def test_a_plateau_lowers_the_rate() -> None:
    made = schedule("plateau_reduce", plateau_reduce_lr_threshold=2, plateau_reduce_lr_factor=0.1)
    seen = [made.judged(improved) for improved in (False, True, False, False, False, False)]
    assert seen == [False, False, False, True, False, True]
    assert made.rate(0) == pytest.approx(0.001)


def test_bleu_against_numbers_worked_out_by_hand() -> None:
    assert corpus_bleu([["a", "b", "c", "d", "e"]], [["a", "b", "c", "d", "e"]]) == pytest.approx(1.0)
    # 1-grams 3 of 4, 2-grams 2 of 3, 3-grams 1 of 2, 4-grams 0.01 of 1; brevity exp(1 - 5/4)
    found = corpus_bleu([["a", "b", "c", "x"]], [["a", "b", "c", "d", "e"]])
    assert found == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 0.01) ** 0.25 * math.exp(-0.25))
    # two hypotheses too short for 3-grams: only orders 1 and 2 count, clipped over the corpus
    assert corpus_bleu([["a", "a"], ["b"]], [["a"], ["b"]]) == pytest.approx((2 / 3 * 0.01 / 1) ** 0.5)
    assert corpus_bleu([[]], [["a"]]) == 0.0


WORDS = 6


def drawn_network(**settings: Any) -> Network:
    small = {"num_embed_source": 4, "num_embed_target": 4, "rnn_num_hidden": 6, "weight_init_scale": 12.0}
    model = Seq2Seq(**(small | settings))
    model.validate()
    torch.manual_seed(3)
    network = Network(model.settings, WORDS, WORDS)
    initialise(network, model.settings)
    return network.eval()


def cost(network: Network, source: np.ndarray, target: list[int]) -> float:
    """The negative log probability of a target, its tokens as they are, under teacher forcing."""
    with torch.no_grad():
        encoded = network.encode(source[None].astype(np.int64), np.array([len(source)]))
        given = torch.tensor([[BEGIN, *target[:-1]]])
        scores = network.output(network.decoder(network.embedding(given), encoded))[0]
        scores[:, [PAD, BEGIN]] = -math.inf
        chosen = torch.log_softmax(scores, 1)[torch.arange(len(target)), torch.tensor(target)]
        return -float(chosen.sum())


@pytest.mark.parametrize("settings", [{}, {"decoder_type": "cnn", "cnn_num_hidden": 6}, {"rnn_cell_type": "gru"}])
def test_a_wide_beam_finds_the_best_of_all_sentences(settings: dict[str, Any]) -> None:
    """Against a search through everything that can be said in three steps."""
    network = drawn_network(**settings)
    source = Sentences.of([[4, 5, 1], [5], [4, 4]])
    found = translate(network, source, np.array([3, 3, 3]), beam=200, batch=2)
    words = [number for number in range(WORDS) if number not in (PAD, BEGIN, END)]
    for number, one in enumerate(found):
        said = [[*start, END] for length in range(3) for start in product(words, repeat=length)]
        said += [list(start) for start in product(words, repeat=3)]
        costs = {tuple(each): cost(network, source[number], each) / len(each) for each in said}
        best = min(costs, key=lambda each: costs[each])
        assert one.score == pytest.approx(costs[best], rel=1e-4)
        assert one.ids == [word for word in best if word != END]


def test_greedy_search_takes_the_best_word_each_time() -> None:
    network, source = drawn_network(), Sentences.of([[4, 5, 1]])
    (found,) = translate(network, source, np.array([5]), beam=1, batch=8)
    said: list[int] = []
    while len(said) < 5 and END not in said:
        said.append(min((cost(network, source[0], [*said, word]), word) for word in (1, 3, 4, 5))[1])
    assert found.ids == [word for word in said if word != END]


def test_together_or_alone_a_sentence_is_translated_the_same() -> None:
    network, random = drawn_network(), np.random.default_rng(0)
    source = Sentences.of([random.integers(4, WORDS, length) for length in (3, 1, 6, 2, 5, 3, 1)])
    limits = limits_of(source.lengths, [(2, 2), (4, 4), (6, 6)])
    assert limits.tolist() == [8, 4, 12, 4, 12, 8, 4]
    together = translate(network, source, limits, 3, 4, matrix=True)
    for number, one in enumerate(together):
        (alone,) = translate(network, source.rows(np.array([number])), limits[[number]], 3, 4, matrix=True)
        assert one.ids == alone.ids
        assert one.score == pytest.approx(alone.score, rel=1e-4)
        assert one.matrix is not None
        assert one.matrix.shape == (len(one.ids), source.lengths[number])
        assert alone.matrix is not None
        np.testing.assert_allclose(one.matrix, alone.matrix, atol=1e-5)
