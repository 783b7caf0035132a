"""Image Classification keeps the contract of algorithms on pictures; settings, labels, files, requests are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.algorithms import ImageClassification
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.algorithms.image_classification.labels import CLASS_ID, Labels, coded, form_of
from sagesmith.algorithms.images.augmentation import resized
from sagesmith.formats.errors import DataError
from sagesmith.formats.images import jpeg, png
from sagesmith.testing.check_algorithm import CHECKS, Sample
from tests.algorithms.classification_pictures import SMALL, drawn, folders, listed, recorded

X, Y = drawn(48)
ON_ROWS = ("check_kinds_of_arrays", "check_responses", "check_bad_requests")


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.__name__ not in ON_ROWS], ids=lambda check: str(check.__name__)
)
def test_the_contract_holds_on_pictures(check: Any) -> None:
    check(ImageClassification, Sample(np.random.default_rng(7).integers(0, 256, (8, 8, 8, 3), np.uint8), Y[:8] % 2))


@pytest.fixture(scope="module")
def model() -> ImageClassification:
    return ImageClassification(**SMALL | {"epochs": 2}).fit(X, Y)


# -- requests ---------------------------------------------------------------------------------------------------
def test_a_picture_is_answered_in_both_forms(model: ImageClassification) -> None:
    for kind, body in [("image/png", png(X[0])), ("image/jpeg", jpeg(X[0])), ("application/x-image", png(X[0]))]:
        answer = model.respond(Request(body, kind))
        assert answer.content_type == "application/json"
        found = json.loads(answer.body)
        assert len(found) == 3
        assert sum(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        json.loads(model.respond(Request(png(X[0]))).body), model.predict_proba(X[:1])[0], rtol=1e-6
    )
    lines = model.respond(Request(png(X[0]), "image/png", "application/jsonlines"))
    assert (lines.content_type, lines.body.count(b"\n"), lines.body[-1:]) == ("application/jsonlines", 1, b"\n")
    line = json.loads(lines.body)
    assert list(line) == ["prediction"]
    np.testing.assert_allclose(line["prediction"], model.predict_proba(X[:1])[0], rtol=1e-6)


def test_a_picture_of_any_size_is_scaled_whole(model: ImageClassification) -> None:
    wide = np.repeat(X[0], 3, axis=1)
    answer = json.loads(model.respond(Request(png(wide), "image/png")).body)
    np.testing.assert_allclose(answer, model.predict_proba([resized(wide, 16, 16)])[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "kind", "accept", "status"),
    [
        (b"", "image/png", "", 400),
        (b"no picture", "image/png", "", 400),
        (png(X[0])[:200], "image/png", "", 400),
        (png(X[0]), "text/csv", "", 415),
        (png(X[0]), "image/png", "text/csv", 406),
    ],
)
def test_bad_requests_are_refused(model: ImageClassification, body: bytes, kind: str, accept: str, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        model.respond(Request(body, kind, accept))
    assert refused.value.status == status


@given(st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_no_bytes_break_the_model(body: bytes) -> None:
    model = ImageClassification(num_classes=2, num_training_samples=1, image_shape="3,8,8", num_layers=20)
    with pytest.raises(RequestError):
        model.respond(Request(body, "application/x-image"))


# -- settings ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_layers": 20}, "20 is for pictures of up to 32 x 32; with image_shape 3,224,224 it is one of 18"),
        ({"num_layers": 19}, r"num_layers: 19 is not in \[18, 20, 32"),
        ({"image_shape": "224,224"}, "image_shape: 224,224 is not channels,height,width"),
        ({"image_shape": "4,32,32"}, "image_shape: 4,32,32 is not"),
        ({"lr_scheduler_step": "10,5"}, "lr_scheduler_step: 10,5 is not epochs"),
        ({"lr_scheduler_step": "a"}, "lr_scheduler_step: a is not epochs"),
        ({"checkpoint_frequency": 31}, "checkpoint_frequency: 31 is more than epochs, 30"),
        ({"top_k": 4}, "top_k: 4 is more than num_classes, 3"),
        ({"top_k": 2, "multi_label": 1}, "top_k: it counts classes of pictures with one label"),
        ({"resize": 200}, "resize: 200 is less than a side of image_shape 3,224,224"),
        ({"use_pretrained_model": 1, "image_shape": "3,64,64"}, "with use_pretrained_model=1 it is 3,224,224"),
        ({"use_pretrained_model": 1, "num_layers": 20, "image_shape": "3,32,32"}, "num_layers: with use_pre"),
        ({"precision_dtype": "float64"}, r"precision_dtype: float64 is not in \[float32, float16\]"),
        ({"kv_store": "dist"}, "kv_store: dist is not in"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        ImageClassification(num_classes=3, num_training_samples=10, **given).validate()


def test_depth_18_takes_small_pictures() -> None:
    """As in SageMaker's sample of incremental training."""
    model = ImageClassification(num_layers=18, image_shape="3,28,28", epochs=1, mini_batch_size=3)
    model.fit(drawn(6, side=28)[0], [0, 1, 1, 0, 1, 0])
    assert model.predict_proba(X[:2]).shape == (2, 2)
    assert model.network_.conv1.weight.shape == (64, 3, 3, 3)


# -- labels -----------------------------------------------------------------------------------------------------
def test_labels_of_every_form() -> None:
    one, several = Labels(3), Labels(3, True)
    assert [one.of(label, "p") for label in (np.array([2.0]), b"2", b'"1"', 0)] == [2, 2, 1, 0]
    assert several.of(b"[1, 0, 1]", "p").tolist() == [1, 0, 1]  # type: ignore[union-attr]
    assert several.of(b'"[1, 0, 1]"', "p").tolist() == [1, 0, 1]  # type: ignore[union-attr]
    ids = Labels(3, True, CLASS_ID)
    assert ids.of(b"[0, 2]", "p").tolist() == [1, 0, 1]  # type: ignore[union-attr]
    assert ids.of(b"[]", "p").tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert form_of("application/x-recordio; label-format=class-id") == CLASS_ID
    assert form_of("application/x-recordio") == form_of("") == "multi-hot"
    with pytest.raises(DataError, match="label-format is multi-hot or class-id, found 'hot'"):
        form_of("application/x-recordio; label-format=hot")


@pytest.mark.parametrize(
    ("labels", "label", "words"),
    [
        (Labels(3), b"3", "p.jpg: its label 3 is not a class from 0 to 2"),
        (Labels(3), b"-1", "its label -1 is not a class"),
        (Labels(3), np.array([0.5]), "its label 0.5 is not a class"),
        (Labels(3), np.array([np.nan]), "its label nan is not a class"),
        (Labels(3), np.array([0.0, 1.0]), "has 2 labels: one class is expected"),
        (Labels(3), b"cat", "its label 'cat' is no number"),
        (Labels(3), b'{"a": 1}', "is no number and no list"),
        (Labels(3, True), b"[0, 2]", "its label has 2 numbers, not one for each of 3 classes"),
        (Labels(3, True), b"[0, 2, 1]", "its label holds 2, not only 0 and 1"),
        (Labels(3, True, CLASS_ID), b"[3]", "its label 3 is not a class from 0 to 2"),
    ],
)
def test_wrong_labels_are_named(labels: Labels, label: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        labels.of(label, "p.jpg")


def test_a_callers_labels_become_numbers() -> None:
    assert coded(["b", "a", "b"], None) == ([1, 0, 1], ["a", "b"])
    assert coded([2, 0], None) == ([2, 0], [0, 1, 2])
    assert coded(["a"], ["b", "a"]) == ([1], ["b", "a"])
    with pytest.raises(ValueError, match="label 'c' is not among the classes"):
        coded(["c"], ["a", "b"])


# -- data -------------------------------------------------------------------------------------------------------
def test_bad_data_is_named(tmp_path: Path) -> None:
    def fails(words: str, value: Any, y: Any = None, **options: Any) -> None:
        with pytest.raises((DataError, ValueError), match=words):
            ImageClassification(**SMALL | {"epochs": 1} | options).fit(value, y)

    folder = folders(tmp_path / "train", 12)
    fails(r"num_classes is 2", folder, num_classes=2)
    (folder / "stand" / "bad.jpg").write_bytes(jpeg(X[0])[:100])
    fails(r"train/stand/bad\.jpg", folder)
    (folder / "stand" / "bad.jpg").write_bytes(png(X[0][:8]))
    fails(r"train/stand/bad\.jpg: 16 x 8 pixels, smaller than image_shape's 16 x 16", folder)
    (folder / "none").mkdir()
    fails("class 'none' has no pictures", folder)
    fails("no such file or folder", tmp_path / "nowhere")
    fails("pictures need labels", X)
    fails("48 pictures, but 2 labels", X, [0, 1])
    fails(r"picture \d+: has 1 channels, image_shape says 3", X[..., :1], Y)
    fails(r"picture \d+: pixels are whole numbers from 0 to 255", X / 2 + 0.25, Y)
    fails(r"a\.rec, record 3: its label 2 is not a class from 0 to 1", recorded(tmp_path / "a.rec", 3), num_classes=2)


def test_lists_name_the_pictures(tmp_path: Path) -> None:
    listed(tmp_path / "train", tmp_path / "lists", 48)
    model = ImageClassification(**SMALL | {"num_classes": 3, "epochs": 1})
    model.fit(tmp_path / "train", train_lst=tmp_path / "lists")
    assert model.settings["num_training_samples"] == 48
    (tmp_path / "train" / "7.jpg").unlink()
    with pytest.raises(DataError, match=r"7\.jpg of its pictures are not in"):
        model.fit(tmp_path / "train", train_lst=tmp_path / "lists")


def test_grey_pictures(tmp_path: Path) -> None:
    model = ImageClassification(**SMALL | {"image_shape": "1,16,16", "epochs": 1}).fit(X[..., 0], Y)
    assert model.predict_proba(X[:3, ..., 0]).shape == (3, 3)
    (tmp_path / "a.png").write_bytes(png(X[0]))  # colours become grey
    assert model.predict_proba(tmp_path / "a.png").shape == (1, 3)
    assert len(json.loads(model.respond(Request(png(X[0]), "image/png")).body)) == 3


# -- files ------------------------------------------------------------------------------------------------------
def test_the_archive_describes_itself(model: ImageClassification, tmp_path: Path) -> None:
    model.save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["image-classification-0002.params", "image-classification-symbol.json", "model-shapes.json"]
    described = json.loads((tmp_path / "image-classification-symbol.json").read_text())
    assert described["params"] == names[0]
    assert described["hyperparameters"]["num_layers"] == 20
    assert json.loads((tmp_path / "model-shapes.json").read_text()) == [{"name": "data", "shape": [1, 3, 16, 16]}]
    loaded = ImageClassification.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(ImageClassification.load(tmp_path / "again").predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    "name", ["image-classification-0002.params", "image-classification-symbol.json", "model-shapes.json"]
)
def test_broken_files_are_named(model: ImageClassification, tmp_path: Path, name: str) -> None:
    for content in (b"", b"{}", b"\x80\x04"):
        model.save(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            ImageClassification.load(tmp_path)
    described = json.loads("{}")
    for change in ({"params": "../x.params"}, {"version": 2}, {"hyperparameters": {"image_shape": "1"}}):
        model.save(tmp_path)
        path = tmp_path / "image-classification-symbol.json"
        described = json.loads(path.read_text()) | change
        path.write_text(json.dumps(described))
        with pytest.raises(ValueError, match="describes no image-classification model"):
            ImageClassification.load(tmp_path)
