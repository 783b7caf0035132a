"""Object2Vec learns: encoders against independent forms of them, lazy rows against torch, devices, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import Object2Vec, nets
from sagesmith.algorithms.object2vec.configuration import Encoder
from sagesmith.algorithms.object2vec.encoders import encoder_of
from sagesmith.algorithms.object2vec.network import Table
from sagesmith.algorithms.object2vec.rows import LazyRows
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.object2vec_pairs import SMALL, drawn

LENGTHS = [3, 1, 6, 2]


def settings_of(network: str, layers: int = 2, width: int = 3, dim: int = 7) -> Encoder:
    return Encoder(network, 10, 20, width, layers, 5, "", "", True, dim, 0.0)


def alone(encoder: Any, table: torch.Tensor, ids: torch.Tensor) -> list[torch.Tensor]:
    """Each list's vector worked out on its own."""
    parts = ids.split(LENGTHS)
    return [encoder(table, part, torch.tensor([len(part)]))[0] for part in parts]


@pytest.mark.parametrize("network", ["hcnn", "bilstm", "pooled_embedding"])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
def test_a_list_does_not_depend_on_its_neighbours(network: str, width: int) -> None:
    torch.manual_seed(0)
    encoder = encoder_of(settings_of(network, width=width))
    table, ids = torch.randn(20, 5), torch.randint(0, 20, (sum(LENGTHS),))
    together = encoder(table, ids, torch.tensor(LENGTHS))
    for one, vector in zip(alone(encoder, table, ids), together, strict=True):
        assert torch.allclose(one, vector, atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_hcnn_is_convolutions_with_maxima_of_every_layer(width: int) -> None:
    torch.manual_seed(0)
    encoder: Any = encoder_of(settings_of("hcnn", width=width))
    table, ids = torch.randn(20, 5), torch.randint(0, 20, (6,))
    state, maxima = table[ids].T[None], []
    for layer in encoder.layers:
        kernel = layer.weight.view(layer.out_features, width, -1).transpose(1, 2)
        wide = torch.nn.functional.pad(state, ((width - 1) // 2, width // 2))
        state = torch.relu(torch.nn.functional.conv1d(wide, kernel, layer.bias))
        maxima.append(state[0].amax(dim=1))
    assert [len(part) for part in maxima] == [3, 4]
    assert torch.allclose(encoder(table, ids, torch.tensor([6]))[0], torch.cat(maxima), atol=1e-5)


def test_bilstm_is_torchs_bidirectional_lstm_with_maxima() -> None:
    torch.manual_seed(0)
    encoder: Any = encoder_of(settings_of("bilstm", dim=8))
    both = torch.nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
    names = [name.removesuffix("_l0") for name, _ in encoder.onward[0].named_parameters()]
    with torch.no_grad():
        for layer in (0, 1):
            for name in names:
                getattr(both, f"{name}_l{layer}").copy_(getattr(encoder.onward[layer], f"{name}_l0"))
                getattr(both, f"{name}_l{layer}_reverse").copy_(getattr(encoder.backward_[layer], f"{name}_l0"))
    table, ids = torch.randn(20, 5), torch.randint(0, 20, (sum(LENGTHS),))
    found = encoder(table, ids, torch.tensor(LENGTHS))
    for part, vector in zip(ids.split(LENGTHS), found, strict=True):
        assert torch.allclose(both(table[part][None])[0][0].amax(dim=0), vector, atol=1e-6)


@pytest.mark.parametrize("network", ["hcnn", "bilstm", "pooled_embedding"])
def test_rows_that_share_a_maximum_share_its_gradient_whatever_the_sign(network: str) -> None:
    torch.manual_seed(0)
    encoder, ids = encoder_of(settings_of(network)), torch.tensor([3, 3, 3, 3, 3, 3, 1])
    table = torch.randn(20, 5).requires_grad_()
    gradients = []
    for sign in (1.0, -1.0):
        (sign * encoder(table, ids, torch.tensor([6, 1]))).sum().backward()
        assert table.grad is not None
        gradients.append(sign * table.grad)
        table.grad = None
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*parse:UserWarning")  # of torch, about its own sparse tensors
@pytest.mark.parametrize("name", ["adam", "adagrad", "sgd"])
def test_lazy_rows_move_as_torchs_sparse_optimisers_do(name: str) -> None:
    torch.manual_seed(0)
    ours = Table(10, 3, lazy=True, frozen=False)
    theirs = torch.nn.Embedding.from_pretrained(ours.weight.detach().clone(), freeze=False, sparse=True)
    make: Any = {
        "adam": lambda p: torch.optim.SparseAdam(p, lr=0.1),
        "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-7),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    }[name]
    reference, lazy = make(list(theirs.parameters())), LazyRows(name, [[ours]], 0.1, 0.0)
    for step in range(5):
        ids = torch.randint(0, 7, (6,), generator=torch.Generator().manual_seed(step))
        target = torch.randn(6, 3, generator=torch.Generator().manual_seed(step + 50))
        reference.zero_grad()
        ((theirs(ids) - target) ** 2).sum().backward()
        reference.step()
        vectors, local = ours.taken(ids)
        ((vectors[local] - target) ** 2).sum().backward()
        lazy.step([6])
        assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)


def test_only_the_rows_of_a_batch_travel_between_devices() -> None:
    first, other = (Table(10, 3, lazy=True, frozen=False) for _ in range(2))
    with torch.no_grad():
        other.weight.copy_(first.weight)
        other.weight[[8, 9]] = 7.0  # were the whole table copied, this would be lost
    before, lazy = first.weight.clone(), LazyRows("sgd", [[first], [other]], 0.1, 0.0)
    for table, ids in ((first, [1, 2, 1]), (other, [4, 2, 4, 4])):
        vectors, local = table.taken(torch.tensor(ids))
        vectors[local].sum(dim=1).mean().backward()
    lazy.step([3, 4])  # the mean over seven rows, of which three are table row 4
    counts = torch.tensor([0, 2, 2, 0, 3, 0, 0, 0, 0, 0])[:, None]
    assert torch.allclose(first.weight, before - 0.1 * counts / 7, atol=1e-6)
    assert torch.equal(other.weight[:8], first.weight[:8])
    assert (other.weight[8:] == 7.0).all()


@pytest.mark.parametrize("network", ["hcnn", "bilstm", "pooled_embedding"])
@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_every_encoder_learns_what_belongs_together(network: str, storage: str) -> None:
    more = {"enc0_network": network, "token_embedding_storage_type": storage, "enc0_layers": 1, "epochs": 10}
    more |= {"enc0_token_embedding_dim": 16, "tied_token_embedding_weight": True, "learning_rate": 0.02}
    model = Object2Vec(**{**SMALL, **more}).fit(*drawn(600))
    assert model.score(*drawn(200, seed=1)) > 0.9


@pytest.mark.parametrize("optimizer", ["adadelta", "adagrad", "adam", "rmsprop", "sgd"])
def test_every_optimiser_lowers_the_loss(optimizer: str) -> None:
    run = RecordingRun()
    rate = {"sgd": 1.0, "adagrad": 0.1}.get(optimizer, 0.01)
    more = {"optimizer": optimizer, "learning_rate": rate, "early_stopping_tolerance": 1e-6, "mini_batch_size": 8}
    Object2Vec(**{**SMALL, **more}).fit(*drawn(300), run=run)
    losses = [float(line.rpartition("=")[2]) for line in run.lines if "train cross_entropy" in line]
    assert losses[-1] < losses[0]


def test_different_encoders_of_two_vocabularies() -> None:
    pairs, labels = drawn(200)
    more = {
        "enc1_network": "hcnn", "enc1_max_seq_len": 3, "enc1_vocab_size": 25, "enc1_token_embedding_dim": 6,
        "enc1_layers": 2, "enc1_cnn_filter_width": 2, "comparator_list": "concat", "mlp_layers": 0, "epochs": 2,
    }  # fmt: skip
    model = Object2Vec(**{**SMALL, **more}).fit(pairs, labels)
    shapes = {name: array.shape for name, array in model.arrays().items()}
    assert shapes["tables.1.weight"] == (25, 6)
    assert shapes["encoders.1.layers.0.weight"] == (8, 12)
    assert shapes["mlp.0.weight"] == (2, 32)
    assert np.array_equal(model.embed(in1=[[24, 1, 2, 5]]), model.embed(in1=[[24, 1, 2]]))


def test_comparators_come_in_the_order_of_the_list() -> None:
    pairs, labels = drawn(40)
    more = {"comparator_list": "abs_diff,hadamard,concat", "mlp_layers": 0, "epochs": 1}
    model = Object2Vec(**{**SMALL, **more}).fit(pairs, labels)
    u, v = (model.embed(**{f"in{side}": [pair[side] for pair in pairs]}) for side in (0, 1))
    arrays = model.arrays()
    logits = np.hstack([abs(u - v), u * v, u, v]) @ arrays["mlp.0.weight"].T + arrays["mlp.0.bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(model.predict_proba(pairs), expected, atol=1e-5)


def test_negatives_teach_from_positives_alone() -> None:
    pairs, labels = drawn(2000)
    together = [pair for pair, label in zip(pairs, labels, strict=True) if label]
    held, truth = drawn(200, seed=3)
    plain = Object2Vec(**SMALL).fit(together, np.ones(len(together), int))
    drawn_too = Object2Vec(**SMALL, negative_sampling_rate=3).fit(together, np.ones(len(together), int))
    assert (plain.predict(held) == 1).all()
    assert drawn_too.score(held, truth) > 0.9


def test_training_ends_when_the_loss_no_longer_falls_and_keeps_the_best() -> None:
    run = RecordingRun()
    random = np.random.default_rng(0)
    labels, held = random.integers(0, 2, 80), random.integers(0, 2, 80)
    more = {"epochs": 50, "early_stopping_patience": 2, "learning_rate": 0.05}
    model = Object2Vec(**{**SMALL, **more})
    model.fit(drawn(80)[0], labels, validation=(drawn(80, 1)[0], held), test=(drawn(80, 1)[0], held), run=run)
    losses = [float(line.rpartition("=")[2]) for line in run.lines if "validation cross_entropy" in line]
    assert len(losses) < 50
    assert "The loss fell by less than 0.01 in 2 epochs in a row: training ends" in run.lines
    test = [float(line.rpartition("=")[2]) for line in run.lines if "test cross_entropy" in line]
    assert test[0] == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_a_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(tmp_path: Path, storage: str) -> None:
    data = drawn(100)
    more = {"dropout": 0.2, "token_embedding_storage_type": storage, "early_stopping_tolerance": 1e-6}
    whole = Object2Vec(**{**SMALL, **more, "epochs": 4}).fit(*data)
    first, second = RecordingRun(), RecordingRun()
    first.checkpoints = second.checkpoints = tmp_path
    Object2Vec(**{**SMALL, **more, "epochs": 2}).fit(*data, run=first)
    resumed = Object2Vec(**{**SMALL, **more, "epochs": 4}).fit(*data, run=second)
    assert "Training goes on after epoch 1" in second.lines
    for name, array in whole.arrays().items():
        assert np.array_equal(array, resumed.arrays()[name]), name


class Stopped(RecordingRun):
    """A run that is asked to stop after its second epoch has begun."""

    @property
    def stopping(self) -> bool:
        return any("epoch=0" in line for line in self.lines)


def test_a_stopped_run_leaves_its_best_model() -> None:
    run = Stopped()
    data = drawn(100)
    model = Object2Vec(**{**SMALL, "epochs": 100}).fit(*data, run=run)
    assert sum("train accuracy" in line for line in run.lines) == 1
    once = Object2Vec(**{**SMALL, "epochs": 1}).fit(*data)
    assert np.array_equal(model.predict_proba(data[0]), once.predict_proba(data[0]))


def test_part_of_an_epoch_is_not_judged_however_many_negatives_it_had(tmp_path: Path) -> None:
    class Asked(RecordingRun):
        times = 0

        @property
        def stopping(self) -> bool:
            self.times += 1
            return self.times > 1

    run = Asked()
    run.checkpoints = tmp_path
    model = Object2Vec(**{**SMALL, "negative_sampling_rate": 5}).fit(*drawn(100), run=run)  # two batches of four
    assert not any("#quality_metric" in line for line in run.lines)
    assert not list(tmp_path.iterdir())
    assert np.isfinite(model.predict_proba(drawn(5)[0])).all()


def test_divergence_is_told() -> None:
    more = {"optimizer": "sgd", "learning_rate": 1.0, "output_layer": "mean_squared_error"}
    with pytest.raises(ValueError, match="training diverged"):
        Object2Vec(**{**SMALL, **more}).fit(drawn(100)[0], np.full(100, 1e15))


# -- several devices ---------------------------------------------------------------------------------------------
def on(devices: int, monkeypatch: pytest.MonkeyPatch, run: RecordingRun | None = None, **settings: Any) -> Object2Vec:
    """A model that learnt 49 pairs, a last batch of a single one among them, on so many devices."""
    monkeypatch.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * devices)
    options = {"epochs": 2, "mini_batch_size": 16, "enc0_token_embedding_dim": 8, "enc0_layers": 2}
    given = {**SMALL, **options, "weight_decay": 0.01, **settings}
    channels = {"auxiliary": given.pop("auxiliary")} if "auxiliary" in given else {}
    return Object2Vec(**given).fit(*drawn(49), run=run, **channels)


def close(one: Object2Vec, other: Object2Vec) -> None:
    for name, array in one.arrays().items():
        np.testing.assert_allclose(other.arrays()[name], array, rtol=0, atol=2e-4, err_msg=name)


def judged(run: RecordingRun) -> list[float]:
    return [float(line.rpartition("=")[2]) for line in run.lines if line.startswith("#quality_metric")]


@pytest.mark.parametrize("network", ["hcnn", "bilstm", "pooled_embedding"])
@pytest.mark.parametrize("rate", [0, 3])
@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("tied", [False, True])
def test_several_devices_learn_what_one_does(
    network: str, rate: int, storage: str, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"enc0_network": network, "negative_sampling_rate": rate, "token_embedding_storage_type": storage}
    runs = [RecordingRun() for _ in range(3)]
    alone, two, three = (
        on(count, monkeypatch, run, tied_token_embedding_weight=tied, **settings)
        for count, run in zip((1, 2, 3), runs, strict=True)
    )
    close(alone, two)
    close(alone, three)
    assert len(judged(runs[0])) == 4
    for run in runs[1:]:
        assert judged(run) == pytest.approx(judged(runs[0]), rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"bucket_width": 2, "enc0_network": "hcnn"},
        {"output_layer": "mean_squared_error", "token_embedding_storage_type": "row_sparse", "optimizer": "adagrad"},
        {
            "enc1_network": "hcnn", "enc1_vocab_size": 25, "enc1_max_seq_len": 3, "enc1_token_embedding_dim": 6,
            "token_embedding_storage_type": "row_sparse", "optimizer": "sgd", "negative_sampling_rate": 20,
        },
    ],
)  # fmt: skip
def test_several_devices_with_other_options(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    close(on(1, monkeypatch, **settings), on(2, monkeypatch, **settings))


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("freeze", [True, False])
def test_several_devices_with_pretrained_vectors(
    tmp_path: Path, storage: str, freeze: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vectors.txt").write_text("".join(f"w{k} {k} 1 2 3\n" for k in range(15)))
    (tmp_path / "vocab.json").write_text(json.dumps({f"w{k}": k for k in range(20)}))
    settings = {
        "enc0_pretrained_embedding_file": "vectors.txt", "enc0_vocab_file": "vocab.json", "enc_dim": 4,
        "enc0_freeze_pretrained_embedding": freeze, "token_embedding_storage_type": storage, "auxiliary": tmp_path,
    }  # fmt: skip
    close(on(1, monkeypatch, **settings), on(3, monkeypatch, **settings))


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
def test_a_run_on_two_devices_goes_on_from_its_checkpoint(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"token_embedding_storage_type": storage, "negative_sampling_rate": 2, "early_stopping_tolerance": 1e-6}
    whole = on(2, monkeypatch, **settings, epochs=4)
    first, second = RecordingRun(), RecordingRun()
    first.checkpoints = second.checkpoints = tmp_path
    on(2, monkeypatch, first, **settings)
    resumed = on(2, monkeypatch, second, **settings, epochs=4)
    assert "Training goes on after epoch 1" in second.lines
    for name, array in whole.arrays().items():
        assert np.array_equal(array, resumed.arrays()[name]), name
