"""Image Classification learns: every option counts, log lines are MXNet's, runs go on where they were cut off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import ImageClassification, nets
from sagesmith.algorithms.backbones.resnet import ResNet
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.algorithms.image_classification.network import OneClass, SeveralClasses, balancing
from sagesmith.container.distributed import _free_port
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.classification_pictures import NAMES, SMALL, drawn, folders, recorded, several

TRAIN, HELD = drawn(192), drawn(48, seed=1)


def fitted(
    train: Any = TRAIN, validation: Any = HELD, run: RecordingRun | None = None, **settings: Any
) -> tuple[ImageClassification, RecordingRun]:
    run = run or RecordingRun()
    model = ImageClassification(**SMALL | settings)
    X, y = train if isinstance(train, tuple) else (train, None)
    return model.fit(X, y, validation=validation, run=run), run


def found(run: RecordingRun, what: str) -> list[float]:
    return [float(match[1]) for line in run.lines if (match := re.fullmatch(rf"Epoch\[\d+\] {what}=(\S+)", line))]


def weights(model: ImageClassification) -> dict[str, np.ndarray]:
    return nets.weights_of(model.network_)


def same(one: ImageClassification, other: ImageClassification) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


def test_pictures_are_told_apart_and_the_best_epoch_is_kept() -> None:
    model, run = fitted(epochs=4)
    accuracies = found(run, "Validation-accuracy")
    assert len(accuracies) == len(found(run, "Train-accuracy")) == 4
    assert max(accuracies) > 0.85
    assert model.score(*HELD) == pytest.approx(max(accuracies), abs=1e-6)
    assert all(any(re.search(metric.regex, line) for line in run.lines) for metric in model.metrics)
    probabilities = model.predict_proba(HELD[0])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), model.predict(HELD[0]))


def test_the_log_is_mxnets() -> None:
    _, run = fitted(drawn(84), epochs=1, mini_batch_size=4, top_k=2, lr_scheduler_step="1")
    expected = [
        r"Epoch\[0\] Batch \[20\]\tSpeed: \d+\.\d{3} samples/sec\taccuracy=0\.\d{6}\ttop_k_accuracy_2=0\.\d{6}",
        r"Epoch\[0\] Train-accuracy=0\.\d{6}",
        r"Epoch\[0\] Train-top_k_accuracy_2=0\.\d{6}",
        r"Epoch\[0\] Time cost=\d+\.\d{3}",
        r"Epoch\[0\] Validation-accuracy=0\.\d{6}",
        r"Epoch\[0\] Validation-top_k_accuracy_2=\d\.\d{6}",
        r"Storing the best model with validation accuracy: 0\.\d{6}",
    ]
    lines = run.lines[1:]
    assert len(lines) == len(expected), lines
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(expected, lines, strict=True)), lines


@pytest.mark.parametrize("optimizer", ["nag", "adam", "rmsprop"])
def test_other_optimizers_learn(optimizer: str) -> None:
    rate = 0.05 if optimizer == "nag" else 0.003
    _, run = fitted(optimizer=optimizer, learning_rate=rate)
    assert found(run, "Train-accuracy")[-1] > 0.8


def test_settings_of_an_optimizer_count_where_it_reads_them() -> None:
    plain, run = fitted(epochs=1, optimizer="adam", learning_rate=0.01)
    assert not any("no effect" in line for line in run.lines)
    for name, value in [("beta_1", 0.5), ("beta_2", 0.5), ("eps", 0.1)]:
        assert not same(plain, fitted(epochs=1, optimizer="adam", learning_rate=0.01, **{name: value})[0])
    for name, value in [("momentum", 0.5), ("weight_decay", 0.5), ("gamma", 0.5)]:
        other, run = fitted(epochs=1, optimizer="adam", learning_rate=0.01, **{name: value})
        assert same(plain, other)
        assert any(line.startswith(f"{name} has no effect") for line in run.lines)


def test_the_learning_rate_falls_by_steps() -> None:
    model, run = fitted(epochs=3, lr_scheduler_step="1,2", lr_scheduler_factor=0.0)
    assert "Update[12]: Change learning rate to 0.00000e+00" in run.lines
    assert "Update[24]: Change learning rate to 0.00000e+00" in run.lines
    once, _ = fitted(epochs=1)
    assert np.array_equal(weights(model)["conv1.weight"], weights(once)["conv1.weight"])


def test_the_deepest_network_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"epochs": 1, "num_layers": 110, "num_training_samples": 16}
    warm, _ = fitted(**options)
    monkeypatch.setattr("sagesmith.algorithms.image_classification.training.WARM_UP", {})
    assert not same(warm, fitted(**options)[0])
    slow, _ = fitted(**options | {"learning_rate": 0.05 / 401})
    np.testing.assert_allclose(weights(slow)["conv1.weight"], weights(warm)["conv1.weight"], rtol=1e-5, atol=1e-7)


def test_an_epoch_is_num_training_samples() -> None:
    _, run = fitted(epochs=1, num_training_samples=32, mini_batch_size=1)
    assert any("num_training_samples is 32, but the train channel holds 192" in line for line in run.lines)
    accuracy = found(run, "Train-accuracy")[0]
    assert accuracy * 32 == pytest.approx(round(accuracy * 32), abs=1e-4)


def test_a_last_batch_of_one_picture_is_left_out() -> None:
    X, y = drawn(17)
    _, run = fitted((X, y), epochs=1, image_shape="3,4,4", num_layers=18)
    accuracy = found(run, "Train-accuracy")[0]
    assert accuracy * 16 == pytest.approx(round(accuracy * 16), abs=1e-4)


def test_several_classes_a_picture() -> None:
    labels = [np.array([several(image, label) for image, label in zip(*part, strict=True)]) for part in (TRAIN, HELD)]
    for weighted in (0, 1):
        model, run = fitted(
            (TRAIN[0], labels[0]), (HELD[0], labels[1]), epochs=5, multi_label=1, use_weighted_loss=weighted,
            optimizer="adam", learning_rate=0.01,
        )  # fmt: skip
        accuracy = (model.predict(HELD[0]) == labels[1]).mean()
        assert accuracy > 0.8
        assert max(found(run, "Validation-accuracy")) == pytest.approx(accuracy, abs=1e-6)
        assert not np.allclose(model.predict_proba(HELD[0]).sum(1), 1)


def test_weights_of_classes_balance_them() -> None:
    absent, present = balancing(np.array([1.0, 5.0, 0.0]), 10)
    np.testing.assert_allclose(absent, [10 / 18, 1, 1])
    np.testing.assert_allclose(present, [5, 1, 1])
    logits, targets = torch.randn(4, 2), torch.tensor([[0.0, 1], [1, 1], [0, 0], [0, 1]])
    weighted = SeveralClasses(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    terms = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    factors = torch.where(targets > 0, torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(weighted.loss(logits, targets), (terms * factors).mean())


def test_top_k_counts_the_first_k() -> None:
    logits = torch.tensor([[3.0, 2, 1], [3, 2, 1], [1, 2, 3]])
    assert OneClass(2).counted(logits, torch.tensor([0, 1, 0])).tolist() == [1, 2]


def test_training_ends_early_when_accuracy_stalls() -> None:
    settings = {"learning_rate": 0.0, "early_stopping": True, "epochs": 9, "num_training_samples": 16}
    settings |= {"early_stopping_min_epochs": 2, "early_stopping_patience": 3}
    puzzle = (HELD[0][[0, 0, 0]], [0, 1, 2])  # one in three is right, whatever is said
    _, run = fitted(validation=puzzle, **settings)
    assert len(found(run, "Validation-accuracy")) == 4
    _, run = fitted(validation=puzzle, **settings | {"early_stopping_min_epochs": 6})
    assert len(found(run, "Validation-accuracy")) == 6
    _, run = fitted(validation=puzzle, **settings | {"early_stopping": False, "epochs": 5})
    assert len(found(run, "Validation-accuracy")) == 5
    assert "early_stopping_patience has no effect without early_stopping" in run.lines
    with pytest.raises(HyperparameterError, match="early_stopping needs a channel 'validation'"):
        fitted(validation=None, early_stopping=True)


def test_half_precision_on_a_cpu_learns_and_is_said() -> None:
    model, run = fitted(precision_dtype="float16")
    assert any("bfloat16" in line for line in run.lines)
    assert found(run, "Train-accuracy")[-1] > 0.8
    assert {array.dtype for array in weights(model).values()} == {np.dtype(np.float32), np.dtype(np.int64)}


def test_the_seed_decides() -> None:
    assert same(fitted(epochs=1)[0], fitted(epochs=1)[0])
    assert not same(fitted(epochs=1)[0], fitted(epochs=1, seed=1)[0])


def test_augmentation_changes_what_is_learnt() -> None:
    large = drawn(48, side=20)
    models = [fitted(large, (HELD[0], HELD[1]), epochs=1, augmentation_type=level)[0]
              for level in (None, "crop", "crop_color", "crop_color_transform")]  # fmt: skip
    assert not any(same(one, other) for at, one in enumerate(models) for other in models[:at])


# -- going on ---------------------------------------------------------------------------------------------------
class Interrupted(RecordingRun):
    """Is asked to stop once a line was logged."""

    def __init__(self, checkpoints: Path, line: str) -> None:
        super().__init__()
        self.checkpoints, self._line = checkpoints, line

    @property
    def stopping(self) -> bool:
        return any(line.startswith(self._line) for line in self.lines)


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    options = {"epochs": 3, "augmentation_type": "crop", "lr_scheduler_step": "2"}
    straight, run = fitted(**options)
    _, cut = fitted(run=Interrupted(tmp_path, "Epoch[1] Train"), **options)
    assert len(found(cut, "Validation-accuracy")) == 2
    resumed, second = fitted(run=Interrupted(tmp_path, "never"), **options)
    assert "Training goes on after epoch 1" in second.lines
    assert found(run, "Validation-accuracy") == [
        *found(cut, "Validation-accuracy"),
        *found(second, "Validation-accuracy"),
    ]
    assert same(straight, resumed)


def test_a_stop_within_an_epoch_leaves_the_best_epoch(tmp_path: Path) -> None:
    options = {"epochs": 3, "mini_batch_size": 4}
    model, run = fitted(run=Interrupted(tmp_path, "Epoch[1] Batch [20]"), **options)
    assert len(found(run, "Validation-accuracy")) == 1
    assert model.score(*HELD) == pytest.approx(found(run, "Validation-accuracy")[0], abs=1e-6)


def test_training_goes_on_from_an_earlier_model(tmp_path: Path) -> None:
    first, run = fitted(epochs=3)
    first.save(tmp_path)
    again = RecordingRun()
    again.initial_model = tmp_path
    _, again = fitted(run=again, epochs=1, learning_rate=0.001)
    assert found(again, "Train-accuracy")[0] > found(run, "Train-accuracy")[0] + 0.2
    for name, value in [("num_layers", 18), ("image_shape", "3,12,12"), ("num_classes", 4)]:
        with pytest.raises(ValueError, match=f"cannot go on .*: {name} is .* there and {value} here"):
            fitted(run=again, **{name: value})
    with pytest.raises(ValueError, match=r"there is no image-classification-symbol\.json"):
        again.initial_model = tmp_path / "none"
        fitted(run=again)


def test_training_begins_with_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = drawn(2, side=224)
    options = {"image_shape": "3,224,224", "num_layers": 18, "use_pretrained_model": 1, "epochs": 1}
    options |= {"mini_batch_size": 2, "learning_rate": 0.0, "num_classes": 2}
    monkeypatch.delenv("SAGESMITH_PRETRAINED", raising=False)
    with pytest.raises(ValueError, match=r"no published weights of resnet18.*SAGESMITH_PRETRAINED"):
        fitted((X, y), None, **options)
    torch.manual_seed(5)
    published = ResNet(18, classes=1000).state_dict()
    torch.save(published, tmp_path / "resnet18-f37072fd.pth")
    monkeypatch.setenv("SAGESMITH_PRETRAINED", str(tmp_path))
    model, _ = fitted((X, y), None, **options)
    assert np.array_equal(weights(model)["layer4.1.conv2.weight"], published["layer4.1.conv2.weight"].numpy())
    assert weights(model)["fc.weight"].shape == (2, 512)


def test_files_of_every_so_many_epochs_and_of_the_best(tmp_path: Path) -> None:
    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in folder.glob("*.params"))

    job = RecordingRun()
    job.model = tmp_path / "model"
    model, job = fitted(run=job, epochs=5, checkpoint_frequency=2)
    best = 1 + int(np.argmax(found(job, "Validation-accuracy")))
    expected = sorted({f"image-classification-{number:04d}.params" for number in (2, 4, best)})
    assert names(tmp_path / "model") == expected
    assert f'Saved checkpoint to "{tmp_path}/model/image-classification-0002.params"' in job.lines
    alone, _ = fitted(epochs=5, checkpoint_frequency=2)
    alone.save(tmp_path / "alone")
    assert names(tmp_path / "alone") == expected
    model.save(tmp_path / "model")
    assert names(tmp_path / "model") == expected
    loaded = ImageClassification.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(HELD[0]), model.predict_proba(HELD[0]))


def test_files_of_earlier_epochs_survive_a_killed_job(tmp_path: Path) -> None:
    job = Interrupted(tmp_path / "checkpoints", "Epoch[3] Train")
    job.model = tmp_path / "killed"
    fitted(run=job, epochs=5, checkpoint_frequency=1)
    again = Interrupted(tmp_path / "checkpoints", "never")
    again.model = tmp_path / "model"
    fitted(run=again, epochs=5, checkpoint_frequency=1)
    assert "Training goes on after epoch 3" in again.lines
    expected = [f"image-classification-{number:04d}.params" for number in (1, 2, 3, 4, 5)]
    assert sorted(path.name for path in (tmp_path / "model").glob("*.params")) == expected
    for name in expected[:4]:
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    (tmp_path / "checkpoints" / expected[1]).unlink()
    further = Interrupted(tmp_path / "checkpoints", "never")
    further.model = tmp_path / "further"
    fitted(run=further, epochs=6, checkpoint_frequency=1)
    assert any(line.startswith("The weights of epoch 2 are lost: ") for line in further.lines)
    assert len(list((tmp_path / "further").glob("*.params"))) == 5


# -- devices and hosts ------------------------------------------------------------------------------------------
GANG = """
import os, sys
import numpy as np
from sagesmith.algorithms import ImageClassification, nets
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.classification_pictures import SMALL, drawn

rank, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
run = RecordingRun()
run.hosts = ("algo-1", "algo-2")
run.host, run.port = run.hosts[rank], port
model = ImageClassification(**SMALL | {"epochs": 2, "mini_batch_size": 16, "augmentation_type": "crop",
                                      "learning_rate": 0.002})
model.fit(*drawn(90, side=18), validation=drawn(48, seed=1), run=run)
np.savez(out, lines=[line for line in run.lines if "accuracy=" in line], **nets.weights_of(model.network_))
os._exit(0)  # as a job ends where torch is: gloo's threads may abort an ordinary exit
"""


def test_two_hosts_learn_what_two_devices_learn_and_nearly_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, files = _free_port("127.0.0.1"), [tmp_path / f"{rank}.npz" for rank in range(2)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    children = [
        subprocess.Popen([sys.executable, "-c", GANG, str(rank), str(port), str(file)], env=environment,
                         stderr=subprocess.PIPE)
        for rank, file in enumerate(files)
    ]  # fmt: skip
    options = {"epochs": 2, "mini_batch_size": 32, "augmentation_type": "crop", "learning_rate": 0.002}
    alone, run = fitted(drawn(90, side=18), **options)
    monkeypatch.setattr(nets, "every_device", lambda run: [torch.device("cpu")] * 2)
    together, pair = fitted(drawn(90, side=18), **options)
    errors = [child.communicate(timeout=120)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0], errors
    first, second = (dict(np.load(file)) for file in files)
    for name, array in weights(together).items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
    assert first["lines"].tolist() == second["lines"].tolist()
    curves = [found(one, "Train-accuracy") for one in (run, pair)]
    assert curves[1] == pytest.approx([float(line.split("=")[1]) for line in first["lines"] if "Train-" in line])
    assert curves[1] == pytest.approx(curves[0], abs=0.2)
    assert not same(alone, together)  # BatchNorm's statistics are those of each part of a batch, as in MXNet


# -- from folders and records -----------------------------------------------------------------------------------
def test_a_folder_with_a_folder_for_each_class(tmp_path: Path) -> None:
    model, _ = fitted(folders(tmp_path / "train", 192), folders(tmp_path / "held", 48, seed=1), epochs=4)
    assert model.classes_.tolist() == list(NAMES)
    said = model.predict(tmp_path / "held" / "stand")
    assert said.dtype.kind == "U"
    assert (said == "stand").mean() > 0.7
    model.save(tmp_path / "model")
    assert ImageClassification.load(tmp_path / "model").classes_.tolist() == list(NAMES)


def test_records_are_learnt_from(tmp_path: Path) -> None:
    train, held = recorded(tmp_path / "a.rec", 192), recorded(tmp_path / "b.rec", 48, seed=1)
    model, run = fitted(train, held, num_classes=3, epochs=4)
    assert max(found(run, "Validation-accuracy")) > 0.8
    assert model.predict(HELD[0][:3]).tolist() == [0, 1, 2]
    train = recorded(tmp_path / "several.rec", 96, multi=True)
    model, _ = fitted(train, None, num_classes=3, multi_label=1, epochs=1)
    assert model.predict_proba(HELD[0]).shape == (48, 3)
