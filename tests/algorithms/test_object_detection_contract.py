"""Object Detection keeps the contract of algorithms on pictures, and answers as SageMaker's does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.algorithms.object_detection import network
from sagesmith.formats.images import jpeg, png
from sagesmith.testing.check_algorithm import RecordingRun, Sample, applicable
from tests.algorithms.detection_scenes import SmallTrunk, drawn

IMAGES, OBJECTS = drawn(8)


@pytest.mark.parametrize("check", applicable(ObjectDetection), ids=lambda check: str(check.__name__))
def test_the_contract_holds(check: Any) -> None:
    check(ObjectDetection, Sample(np.zeros((2, 2), np.float32), None))


@pytest.fixture(scope="module")
def model() -> ObjectDetection:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(network.TRUNKS, "vgg-16", SmallTrunk)
        made = ObjectDetection(**ObjectDetection.example, learning_rate=0.01)
        return made.fit(IMAGES, OBJECTS, run=RecordingRun())


def ask(model: ObjectDetection, body: bytes, kind: str = "image/png", accept: str = "") -> Any:
    answer = model.respond(Request(body, kind, accept))
    return answer, json.loads(answer.body)


def test_a_picture_is_answered_with_its_detections(model: ObjectDetection) -> None:
    expected = model.predict(IMAGES[:1])[0]
    answer, content = ask(model, png(IMAGES[0]))
    assert answer.content_type == "application/json"
    assert list(content) == ["prediction"]
    assert np.allclose(content["prediction"], expected, atol=1e-6)
    assert 0 < len(content["prediction"]) <= 400
    assert all(isinstance(value, float) for value in content["prediction"][0])
    assert b"[0.0, " in answer.body or b"[1.0, " in answer.body  # the class is a float
    lines, _ = ask(model, png(IMAGES[0]), "application/x-image", "application/jsonlines")
    assert lines.content_type == "application/jsonlines"
    assert lines.body == answer.body + b"\n"
    assert len(ask(model, jpeg(IMAGES[0]), "image/jpeg")[1]["prediction"]) > 0


def test_detections_as_annotations_in_pixels(model: ObjectDetection) -> None:
    wide = np.repeat(IMAGES[0], 2, axis=1)
    answer, content = ask(model, png(wide), accept="application/json;annotation=1")
    assert answer.content_type == "application/json;annotation=1"
    assert content["image_size"] == [{"width": 192, "height": 96, "depth": 3}]
    expected = model.predict([wide])[0]
    assert len(content["annotations"]) == len(expected)
    for one, row in zip(content["annotations"], expected, strict=True):
        assert list(one) == ["class_id", "score", "left", "top", "width", "height"]
        assert one["class_id"] == row[0]
        assert one["score"] == pytest.approx(row[1])
        corners = [one["left"], one["top"], one["left"] + one["width"], one["top"] + one["height"]]
        assert corners == np.rint(row[2:] * [192, 96, 192, 96]).astype(int).tolist()
    plain, _ = ask(model, png(wide), accept="application/json; annotation=0")
    assert b"prediction" in plain.body


def test_grey_pictures_paths_and_files_are_taken(model: ObjectDetection, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(IMAGES[0]))
    from_file, from_array = model.predict([tmp_path / "a.png", IMAGES[0]])
    assert np.allclose(from_file, from_array)
    assert len(model.predict([IMAGES[0][:, :, 0]])[0]) > 0
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("body", "kind", "accept", "status", "words"),
    [
        (b"", "image/png", "", 400, "empty"),
        (b"no picture", "image/png", "", 400, "is no picture"),
        (png(IMAGES[0])[:200], "image/png", "", 400, "cannot be decoded"),
        (b"1,2", "text/csv", "", 415, "image/jpeg"),
        (png(IMAGES[0]), "image/png", "text/csv", 406, "application/jsonlines"),
        (png(IMAGES[0]), "image/png", "application/json;annotation=2", 406, "annotation must be 0 or 1"),
    ],
)
def test_bad_requests(model: ObjectDetection, body: bytes, kind: str, accept: str, status: int, words: str) -> None:
    with pytest.raises(RequestError, match=words) as error:
        model.respond(Request(body, kind, accept))
    assert error.value.status == status


def test_nms_topk_limits_rows_and_nms_threshold_doubles(model: ObjectDetection) -> None:
    few = ObjectDetection(**model.get_params()).set_params(nms_topk=5)
    few.network_ = model.network_
    assert len(few.predict(IMAGES[:1])[0]) == 5
    all_doubles = ObjectDetection(**model.get_params()).set_params(nms_threshold=1.0)
    all_doubles.network_ = model.network_
    assert len(all_doubles.predict(IMAGES[:1])[0]) >= len(model.predict(IMAGES[:1])[0])


def test_unreadable_models_are_refused_by_the_file(model: ObjectDetection, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_algo_1-symbol\.json"):
        ObjectDetection.load(tmp_path)
    model.save(tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(network.TRUNKS, "vgg-16", SmallTrunk)
        twin = ObjectDetection.load(tmp_path)
    assert np.allclose(twin.predict(IMAGES[:1])[0], model.predict(IMAGES[:1])[0])
    params = tmp_path / "model_algo_1-0000.params"
    whole = params.read_bytes()
    params.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model_algo_1-0000\.params is no object-detection model"):
        ObjectDetection.load(tmp_path)
    params.write_bytes(whole)
    settings = tmp_path / "hyperparams.json"
    settings.write_text(settings.read_text().replace('"num_classes": 2', '"num_classes": 3'))
    with pytest.raises(ValueError, match=r"hyperparams\.json .*differs from model_algo_1-symbol\.json"):
        ObjectDetection.load(tmp_path)


def test_hyperparameters_of_sagemakers_console_are_taken() -> None:
    sent = {
        "num_classes": "20", "num_training_samples": "16551", "base_network": "resnet-50", "early_stopping": "False",
        "early_stopping_min_epochs": "10", "early_stopping_patience": "5", "early_stopping_tolerance": "0.0",
        "image_shape": "300", "epochs": "30", "freeze_layer_pattern": "", "kv_store": "dist_sync",
        "label_width": "350", "learning_rate": "0.001", "lr_scheduler_factor": "0.1", "lr_scheduler_step": "33,67",
        "mini_batch_size": "32", "momentum": "0.9", "nms_threshold": "0.45", "optimizer": "sgd",
        "overlap_threshold": "0.5", "use_pretrained_model": "1", "weight_decay": "0.0005",
    }  # fmt: skip
    settings = ObjectDetection.from_strings(sent).settings
    assert settings["lr_scheduler_step"] == "33,67"
    assert settings["nms_topk"] == 400
    with pytest.raises(HyperparameterError, match="image_shape: 299"):
        ObjectDetection.from_strings(sent | {"image_shape": "299"})
