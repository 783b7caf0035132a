"""NTM learns: known topics are found, every option counts, losses are what they say."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from sagesmith.algorithms import NTM, nets
from sagesmith.algorithms.ntm import OPTIMIZERS, network
from sagesmith.algorithms.ntm.averaging import Averaged
from sagesmith.algorithms.ntm.encoding import ACTIVATIONS, encoded
from sagesmith.algorithms.ntm.network import Documents, Network, Surprise, folded
from sagesmith.algorithms.ntm.stopping import Patience
from sagesmith.algorithms.ntm.training import Training
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.ntm_documents import TOPICS, bars, drawn

COUNTS, MIXTURES = drawn(1500)


def fitted(counts: Any = COUNTS, **settings: Any) -> tuple[NTM, RecordingRun]:
    run = RecordingRun()
    run.checkpoints = settings.pop("checkpoints", None)
    channels = {name: settings.pop(name) for name in ("validation", "test", "vocabulary") if name in settings}
    settings = {"num_topics": TOPICS, "epochs": 8, "optimizer": "adam", "mini_batch_size": 64} | settings
    return NTM(**settings).fit(counts, run=run, **channels), run


def losses(run: RecordingRun) -> list[float]:
    found = (re.search(r"train total_loss <loss>=(\S+)", line) for line in run.lines)
    return [float(match[1]) for match in found if match]


def matched(weights: np.ndarray, mixtures: np.ndarray) -> float:
    """The mean correlation of weights and mixtures (D, K) under the best naming of topics."""
    table = np.corrcoef(weights.T, mixtures.T)[:TOPICS, TOPICS:]
    return max(float(table[range(TOPICS), order].mean()) for order in permutations(range(TOPICS)))


def test_known_topics_are_found() -> None:
    model, _ = fitted(epochs=30)
    held, mixtures = drawn(400, seed=9)
    assert matched(model.predict(held), mixtures) > 0.9
    found = {frozenset(topic) for topic in model.topics(5)}
    assert found == {frozenset(str(word) for word in np.flatnonzero(bar)) for bar in bars()}
    assert model.topic_uniqueness(5).tolist() == [1.0] * TOPICS


def test_the_default_settings_do_not_collapse() -> None:
    model, run = fitted(optimizer="adadelta", epochs=20, mini_batch_size=256)
    kld = [float(line.rsplit(" ", 1)[1]) for line in run.lines if "kld" in line]
    assert kld[-1] > 0.01
    assert matched(model.predict(COUNTS), MIXTURES) > 0.8


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    _, run = fitted(optimizer=optimizer, epochs=4, num_patience_epochs=9)
    assert losses(run)[-1] < losses(run)[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_norm": True},
        {"clip_gradient": 0.001},
        {"encoder_layers": [7]},
        {"encoder_layers": "9,8,7"},
        {"encoder_layers_activation": "tanh"},
        {"encoder_layers_activation": "relu"},
        {"learning_rate": 0.05},
        {"rescale_gradient": 0.01, "optimizer": "sgd"},
        {"sub_sample": 0.5},
        {"weight_decay": 0.1},
        {"seed": 1},
        {"mini_batch_size": 32},
    ],
)
def test_every_setting_counts(changed: dict[str, Any]) -> None:
    plain, _ = fitted(epochs=2, **({"optimizer": changed["optimizer"]} if "optimizer" in changed else {}))
    other, _ = fitted(epochs=2, **changed)
    assert not np.allclose(plain.predict(COUNTS), other.predict(COUNTS), atol=1e-4)


def test_an_unbounded_gradient_may_be_asked_for_by_name() -> None:
    for value in ("Inf", "inf", "Infinity", float("inf")):
        assert isinstance(NTM(num_topics=2, clip_gradient=value).settings["clip_gradient"], str)


def test_sub_sample_draws_that_share_of_the_documents() -> None:
    _, run = fitted(epochs=1, sub_sample=0.25)
    assert "# Finished training epoch 1 on 375 examples from 6 batches, each of size 64." in run.lines
    _, run = fitted(epochs=1, sub_sample=0)
    assert "# Finished training epoch 1 on 1 examples from 1 batches, each of size 64." in run.lines


def test_a_last_document_alone_is_normalised_with_the_batch_before() -> None:
    _, run = fitted(COUNTS[:129], batch_norm=True, epochs=1)
    assert "# Finished training epoch 1 on 129 examples from 2 batches, each of size 64." in run.lines
    with pytest.raises(ValueError, match="batch_norm needs at least 2 documents"):
        fitted(COUNTS[:1], batch_norm=True)


def test_the_loss_is_that_of_the_formula() -> None:
    """Reconstruction and KL of the finished model, worked out from its parts by torch's own functions."""
    torch.manual_seed(0)
    network = Network(25, 4, [6, 5], "tanh", batch_norm=False).eval()
    counts = sparse.csr_matrix(COUNTS[:30])
    recons, kld = network(Documents.of(counts, torch.device("cpu")))
    x = torch.from_numpy(COUNTS[:30])
    h = torch.tanh(torch.log1p(x) @ network.table.weight + network.bias)
    h = torch.tanh(network.linear[0](h))
    mean, log_variance = network.mean(h), network.log_variance(h)
    logits = functional.softmax(mean, dim=1) @ (network.spread * network.topics).T + network.background
    expected = functional.cross_entropy(logits, x / x.sum(dim=1, keepdim=True), reduction="none")
    torch.testing.assert_close(recons, expected)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, torch.exp(0.5 * log_variance)), normal(0.0, 1.0))
    torch.testing.assert_close(kld, divergence.sum(dim=1) / x.sum(dim=1))


def test_the_likelihood_and_its_gradient_are_torchs_own() -> None:
    documents = Documents.of(sparse.csr_matrix(COUNTS[:6]), torch.device("cpu"))
    shares = (documents.counts / documents.lengths[documents.rows]).double()
    logits = 30 * torch.randn(6, 25, dtype=torch.float64)
    weights = torch.rand(6, dtype=torch.float64)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = Surprise.apply(ours * 1, documents.rows, documents.words, shares)  # it overwrites what it is given
    expected = functional.cross_entropy(theirs, torch.from_numpy(COUNTS[:6] / 60).double(), reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_folded_model_answers_as_the_network(batch_norm: bool) -> None:
    settings = {**NTM(num_topics=4, epochs=2, batch_norm=batch_norm, optimizer="adam").settings, "feature_dim": 25}
    counts = sparse.csr_matrix(COUNTS)
    training = Training(settings, counts, None, nets.Team(RecordingRun(), 0))
    training.epochs()
    training.network.eval()
    with torch.no_grad():
        mean, _ = training.network.encode(Documents.of(counts[:50], torch.device("cpu")))
        theta = functional.softmax(mean, dim=1)
        chances = functional.softmax(training.network.decode(theta), dim=1)
    model = NTM(**settings)
    model._keep(folded(training.network), None)
    np.testing.assert_allclose(encoded(model._model, counts[:50], ACTIVATIONS["sigmoid"]), mean, atol=1e-5)
    np.testing.assert_allclose(model.word_probabilities(theta.numpy()), chances, atol=1e-5)


def test_the_encoder_learns_from_half_of_the_words() -> None:
    torch.manual_seed(0)
    network = Network(25, 4, [6, 5], "tanh", batch_norm=False)
    documents = Documents.of(sparse.csr_matrix(COUNTS[:4]), torch.device("cpu"))
    with torch.no_grad():
        drawn_sums = torch.stack([network.first(documents) for _ in range(4000)])
        whole = network.eval().first(documents)
    torch.testing.assert_close(drawn_sums.mean(dim=0), whole, atol=0.15, rtol=0)
    assert (drawn_sums.std(dim=0) > 0.1).all()
    torch.testing.assert_close(network.first(documents), whole)


def test_reported_losses_are_means_over_documents_of_the_best_model() -> None:
    model, run = fitted(validation=drawn(200, seed=3)[0], test=drawn(200, seed=3)[0], epochs=5)
    scores = [float(line.rsplit(" ", 1)[1]) for line in run.lines if line.startswith("#validation_score")]
    assert len(scores) == 5
    best = next(line for line in run.lines if line.startswith("Best model based on early stopping"))
    epoch = int(np.argmin(scores)) + 1
    assert best == f"Best model based on early stopping at epoch {epoch}. Best loss: {min(scores)}"
    last = [line for line in run.lines if "test total_loss" in line]
    assert len(last) == 1
    assert float(last[0].rsplit("=", 1)[1]) == pytest.approx(min(scores), rel=1e-5), "the same rows as validation"
    recons = -np.log(model.word_probabilities(model.predict(drawn(200, seed=3)[0])))
    shares = drawn(200, seed=3)[0] / 60
    assert 0 < min(scores) - (recons * shares).sum(axis=1).mean() < 1, "the rest is the KL"


def test_the_log_ends_in_the_order_of_the_services() -> None:
    """Against the published log of ntm_20newsgroups_topic_model."""
    _, run = fitted(validation=COUNTS[:99], epochs=2)
    ending = "\n".join(run.lines).rpartition("Timing: ")[2].splitlines()[1:]
    expected = (
        r"#quality_metric: host=algo-1, epoch=2, validation total_loss <loss>=\S+", r"Loss of server-side model: \S+",
        r"Best model based on early stopping at epoch 2. Best loss: \S+",
        r"Topics from epoch:final \(num_topics:5\) \[, tu 0.25\]:", *[r"\d+( \d+){19}"] * TOPICS,
        "Test data is not provided.",
    )  # fmt: skip
    for line, form in zip(ending, expected, strict=True):
        assert re.fullmatch(form, line)


def test_patience_counts_bad_epochs_in_a_row() -> None:
    run, patience = RecordingRun(), Patience(3, 0.01)
    for loss in (10.0, 9.95, 9.0, 8.95, 8.92, 8.5):
        patience.judge(loss, run)
    assert (patience.bad, patience.exhausted) == (0, False)
    for loss in (8.45, 8.44, 8.43):
        patience.judge(loss, run)
    assert patience.exhausted
    assert run.lines[-1] == "Bad epoch: loss has not improved (enough). Bad count:3"
    assert run.lines[-2].startswith("patience losses:[8.5, 8.45, 8.44] min patience loss:8.44 current loss:8.43 ")


def test_training_stops_early_unless_patience_outlasts_it() -> None:
    settings: dict[str, Any] = {"tolerance": 0.1, "epochs": 9}
    assert len(losses(fitted(num_patience_epochs=2, **settings)[1])) < 9
    assert len(losses(fitted(num_patience_epochs=10, **settings)[1])) == 9


def test_validation_drives_it_where_there_is_one() -> None:
    strange = drawn(100, seed=5)[0][:, ::-1].copy()
    strange = np.roll(strange, 2, axis=1)
    _, run = fitted(validation=strange, epochs=30, num_patience_epochs=1)
    assert len(losses(run)) < 30


def test_a_rate_far_too_large_is_told() -> None:
    with pytest.raises(ValueError, match="training diverged: the loss of epoch"):
        fitted(COUNTS * 1e30, optimizer="sgd", learning_rate=1.0, epochs=20, encoder_layers_activation="relu")


# -- several devices ---------------------------------------------------------------------------------------------
def on_devices(monkeypatch: pytest.MonkeyPatch, count: int, counts: Any = COUNTS, **settings: Any) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * count)
        return fitted(counts, **settings)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn while training: z is the mean, and the encoder sees every word."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(network, "DROPPED", 0.0)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("devices", [2, 3])
@pytest.mark.parametrize("optimizer", ["adadelta", "sgd"])
def test_several_devices_learn_what_one_learns(monkeypatch: pytest.MonkeyPatch, optimizer: str, devices: int) -> None:
    """129 documents: a last batch of one."""
    settings = {"optimizer": optimizer, "epochs": 3, "learning_rate": 0.002, "num_patience_epochs": 9}
    one, alone = fitted(COUNTS[:129], **settings)
    several, together = on_devices(monkeypatch, devices, COUNTS[:129], **settings)
    for name, expected in one.arrays().items():
        np.testing.assert_allclose(several.arrays()[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
    assert "# Finished training epoch 3 on 129 examples from 3 batches, each of size 64." in together.lines


@pytest.mark.usefixtures("silent")
def test_every_device_normalises_two_documents_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """131 documents in batches of 64: a last one of 3, of which two devices cannot both have two."""
    found: list[int] = []
    original = Network.forward

    def forward(self: Network, documents: Documents) -> Any:
        found.extend([len(documents)] if self.training else [])
        return original(self, documents)

    monkeypatch.setattr(Network, "forward", forward)
    settings = {"batch_norm": True, "epochs": 4, "optimizer": "adam", "num_patience_epochs": 9}
    _, alone = fitted(COUNTS[:131], **settings)
    found.clear()
    _, together = on_devices(monkeypatch, 2, COUNTS[:131], **settings)
    assert sorted(found) == [3] * 4 + [32] * 16
    assert losses(together) == pytest.approx(losses(alone), rel=0.02), "as over halves of a batch"


@pytest.mark.parametrize("settings", [{}, {"batch_norm": True}])
def test_two_devices_find_the_known_topics(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    model, _ = on_devices(monkeypatch, 2, epochs=30, **settings)
    held, mixtures = drawn(400, seed=9)
    assert matched(model.predict(held), mixtures) > 0.9
    assert model.topic_uniqueness(5).tolist() == [1.0] * TOPICS


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("settings", [{}, {"batch_norm": True}])
def test_training_on_two_devices_goes_on_from_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole, _ = on_devices(monkeypatch, 2, epochs=4, **settings)
    on_devices(monkeypatch, 2, epochs=2, checkpoints=tmp_path, **settings)
    resumed, run = on_devices(monkeypatch, 2, epochs=4, checkpoints=tmp_path, **settings)
    assert "Resuming after epoch 2" in run.lines
    np.testing.assert_allclose(resumed.topic_logits_, whole.topic_logits_, rtol=1e-3, atol=1e-4)


def test_the_mean_of_the_last_weights_is_kept() -> None:
    """Weights that go to and fro between two values: their mean stays in the middle, and what came first is gone."""
    averaged = Averaged(Network(25, 4, [6, 5], "tanh", batch_norm=True))
    weights, mean = averaged.moving.topics, averaged.network.topics
    for step in range(400):
        with torch.no_grad():
            weights.fill_(3.0 + (1 if step % 2 else -1))
        averaged.note()
    torch.testing.assert_close(mean.detach(), torch.full((25, 4), 3.0), atol=0.02, rtol=0)
    averaged.moving.mean_normal.running_mean.fill_(7.0)
    averaged.take_buffers()
    assert averaged.network.mean_normal.running_mean.tolist() == [7.0] * 4
