"""Semantic Segmentation's data, answers and artifact: formats to the byte, and what is refused in which words."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sagesmith.algorithms import SemanticSegmentation
from sagesmith.algorithms.base import HyperparameterError, Request, RequestError
from sagesmith.algorithms.semantic_segmentation import judging, opening, requests
from sagesmith.algorithms.semantic_segmentation.scenes import grouped
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import frame, frames
from sagesmith.formats.images import jpeg, mask_of, png
from sagesmith.formats.protobuf import decode
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.semantic_segmentation_scenes import drawn, small, tiny, written

__all__ = ["tiny"]
pytestmark = pytest.mark.usefixtures("tiny")
IMAGES, MASKS = drawn(12)


@pytest.fixture
def model() -> SemanticSegmentation:
    return small(epochs=1).fit(IMAGES, MASKS)


def told(error: type[Exception], call: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(error) as raised:
        call(*given, **named)
    return str(raised.value)


# -- hyperparameters ---------------------------------------------------------------------------------------------------
def test_strings_of_a_job_are_parsed() -> None:
    given = {
        "num_classes": "21",
        "num_training_samples": "1464",
        "use_pretrained_model": "True",
        "lr_scheduler": "step",
        "lr_scheduler_step": "10,20",
        "early_stopping": "False",
        "syncbn": "true",
    }
    settings = SemanticSegmentation.from_strings(given).settings
    assert settings["lr_scheduler_step"] == [10, 20]
    assert (settings["use_pretrained_model"], settings["early_stopping"], settings["syncbn"]) == (True, False, True)
    assert (settings["base_size"], settings["crop_size"], settings["mini_batch_size"]) == (520, 240, 16)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr_scheduler": "step"}, "lr_scheduler_step is missing"),
        ({"lr_scheduler": "step", "lr_scheduler_step": ""}, "lr_scheduler_step"),
        ({"lr_scheduler": "step", "lr_scheduler_step": "0,5"}, "a list of positive epochs"),
        ({"num_classes": "255"}, "num_classes: 255 is not in [2, 254]"),
        ({"base_size": "16"}, "base_size: 16 is not in (16, inf)"),
        ({"algorithm": "unet"}, "algorithm: unet is not in [fcn, psp, deeplab]"),
        ({"backbone": "resnet-34"}, "backbone: resnet-34 is not in [resnet-50, resnet-101]"),
        ({"optimizer": "lamb"}, "optimizer: lamb is not in"),
        ({"optimzer": "sgd"}, "Additional properties are not allowed ('optimzer' was unexpected)"),
    ],
)
def test_wrong_hyperparameters_are_told(settings: dict[str, str], words: str) -> None:
    given = {"num_classes": "3", "num_training_samples": "5"} | settings
    assert words in told(HyperparameterError, SemanticSegmentation.from_strings, given)


# -- folders ----------------------------------------------------------------------------------------------------------
def channels(folder: Path) -> dict[str, Channel]:
    return {path.name: Channel.from_folder(path.name, path) for path in sorted(folder.iterdir())}


def test_folders_arrays_and_channels_are_the_same_scenes(tmp_path: Path) -> None:
    train = written(tmp_path, IMAGES, MASKS)
    written(tmp_path, *drawn(4, seed=1), name="validation")
    models = [small(epochs=1).fit(tmp_path), small(epochs=1)]
    models[1].train(channels(tmp_path), RecordingRun())
    held = (str(tmp_path / "validation"), str(tmp_path / "validation_annotation"))
    models.append(small(epochs=1).fit(*train, validation=held))
    for other in models[1:]:
        for name, array in models[0].arrays().items():
            assert np.array_equal(array, other.arrays()[name]), name
    assert models[0].score(*held) == models[2].score(*held)


def test_a_label_map_is_read_from_its_channel(tmp_path: Path) -> None:
    written(tmp_path, IMAGES, [np.where(mask == 255, 255, mask * 40).astype(np.uint8) for mask in MASKS])
    written(tmp_path, *drawn(2), name="validation")
    (tmp_path / "label_map").mkdir()
    (tmp_path / "label_map" / "train_label_map.json").write_text('{"scale": "40"}')
    run = RecordingRun()
    small(epochs=1).train(channels(tmp_path), run)
    assert run.lines.count("label maps not provided, using defaults.") == 1  # for validation
    (tmp_path / "label_map" / "train_label_map.json").rename(tmp_path / "label_map" / "labels.json")
    words = told(DataError, small().train, channels(tmp_path), run)
    assert "neither train_label_map.json nor validation_label_map.json is in it; there is: labels.json" in words
    (tmp_path / "label_map" / "train_label_map.json").write_text('{"scale": 0}')
    assert "train_label_map.json: scale 0" in told(DataError, small().train, channels(tmp_path), run)
    (tmp_path / "label_map" / "train_label_map.json").write_text("{")
    assert "train_label_map.json: not JSON" in told(DataError, small().train, channels(tmp_path), run)


def spoilt(folder: Path, how: str) -> None:
    """Spoils the scene 3 of the training channel."""
    image, mask = folder / "train" / "scene3.jpg", folder / "train_annotation" / "scene3.png"
    if how == "no mask":
        mask.unlink()
    elif how == "no picture":
        image.unlink()
    elif how == "truncated":
        image.write_bytes(image.read_bytes()[:300])
    elif how == "mask is a JPEG":
        mask.write_bytes(jpeg(MASKS[3]))
    elif how == "mask in colours":
        mask.write_bytes(png(IMAGES[3]))
    elif how == "other size":
        mask.write_bytes(png(MASKS[3][:-1]))
    elif how == "unknown class":
        mask.write_bytes(png(np.where(MASKS[3] == 2, 7, MASKS[3]).astype(np.uint8)))
    elif how == "no masks":
        for path in mask.parent.iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no mask", "train/scene3.jpg: has no .png of that name in channel 'train_annotation'"),
        ("no picture", "train_annotation/scene3.png: has no picture of that name in channel 'train'"),
        ("truncated", "train/scene3.jpg: cannot be decoded"),
        ("mask is a JPEG", "mask of train/scene3.jpg: a mask is a PNG of one channel with 8 bits, this is a JPEG"),
        (
            "mask in colours",
            "mask of train/scene3.jpg: a mask is a PNG of one channel with 8 bits, this is a PNG of mode RGB",
        ),
        ("other size", "train/scene3.jpg: the picture has 64 x 48 pixels, its mask 64 x 47"),
        ("unknown class", "mask of train/scene3.jpg: pixel value 7 (column "),
        ("no masks", "(and 11 more)"),
    ],
)
def test_bad_data_is_told_with_the_files_name(tmp_path: Path, how: str, words: str) -> None:
    written(tmp_path, IMAGES, MASKS)
    spoilt(tmp_path, how)
    assert words in told(DataError, small(epochs=1).train, channels(tmp_path), RecordingRun())


def test_a_missing_channel_of_masks_is_told(tmp_path: Path) -> None:
    written(tmp_path, IMAGES, MASKS)
    given = channels(tmp_path)
    del given["train_annotation"]
    words = told(DataError, small().train, given, RecordingRun())
    assert words.startswith("Missing required channel: train_annotation")


def test_the_prefix_train_brings_train_annotation_along(tmp_path: Path) -> None:
    """s3://bucket/train matches s3://bucket/train_annotation/0.png too, in AWS's own sample."""
    written(tmp_path, IMAGES, MASKS)
    written(tmp_path / "train", IMAGES, MASKS)
    for path in (tmp_path / "train" / "train").iterdir():
        path.unlink()
    (tmp_path / "train" / "train").rmdir()
    assert (tmp_path / "train" / "train_annotation" / "scene0.png").exists()
    model = small(epochs=1)
    model.train(channels(tmp_path), RecordingRun())
    assert model.predict(IMAGES[:1]).shape == (1, 48, 64)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (IMAGES[:2], MASKS[:1], "2 pictures, but 1 labels"),
        ([np.zeros((4, 4, 4), np.uint8)], MASKS[:1], "picture 0: a picture is an array (height, width, 1 or 3)"),
        (IMAGES[:1], [np.zeros((2, 2, 2), np.uint8)], "mask of picture 0: a mask is an array (height, width)"),
        (IMAGES[:1], [MASKS[0] * 0.5], "mask of picture 0: its values are not whole numbers"),
        (IMAGES[:1], [MASKS[0].astype(int) - 1], "mask of picture 0: its values are not whole numbers"),
        (IMAGES, None, "masks are missing"),
        ("folder", MASKS, "pictures and masks must both be folders, or both arrays"),
        ("no such folder", None, "masks are missing"),
    ],
)
def test_arrays_that_do_not_fit_are_told(X: Any, y: Any, words: str) -> None:
    assert words in told(ValueError, small(epochs=1).fit, X, y)


def test_grey_pictures_and_masks_of_other_whole_numbers_are_taken() -> None:
    images = [image[..., 0] for image in IMAGES]
    model = small(epochs=1).fit(images, [mask.astype(np.int64) for mask in MASKS])
    assert model.predict(images[:2]).shape == (2, 48, 64)


# -- pipes -------------------------------------------------------------------------------------------------------------
def feed(folder: Path, name: str, images: list[np.ndarray], masks: list[np.ndarray], epochs: int) -> Iterator[None]:
    """Writes a wrapped augmented manifest's pipes, as an agent does."""
    payload = b"".join(frame(jpeg(image)) + frame(png(mask)) for image, mask in zip(images, masks, strict=True))
    for epoch in range(epochs):
        os.mkfifo(folder / f"{name}_{epoch}")

    def write() -> None:
        for epoch in range(epochs):
            (folder / f"{name}_{epoch}").write_bytes(payload)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()


def test_augmented_manifests_come_through_pipes(tmp_path: Path) -> None:
    given = {
        name: Channel.from_pipe(name, tmp_path / name, "application/x-recordio", wait=5, record_wrapper="RecordIO")
        for name in ("train", "validation")
    }
    feeding = [feed(tmp_path, "train", IMAGES, MASKS, 2), feed(tmp_path, "validation", *drawn(3), 2)]
    for one in feeding:
        next(one)
    run = RecordingRun()
    model = small(epochs=2, num_training_samples=12, mini_batch_size=4)
    model.train(given, run)
    for one in feeding:
        next(one, None)
    assert "LRScheduler setup: iters per epoch: 3, num_epochs 2" in run.lines
    assert sum("validation mIOU" in line for line in run.lines) == 2
    assert model.predict(IMAGES).shape == (12, 48, 64)


def test_a_pipe_needs_frames_and_a_number_of_samples(tmp_path: Path) -> None:
    plain = Channel.from_pipe("train", tmp_path / "train", "application/x-image")
    assert "its RecordWrapperType must be RecordIO" in told(DataError, small().train, {"train": plain}, RecordingRun())
    wrapped = Channel.from_pipe("train", tmp_path / "train", "application/x-recordio", record_wrapper="RecordIO")
    words = told(HyperparameterError, small().train, {"train": wrapped}, RecordingRun())
    assert "num_training_samples must be given" in words


def test_an_augmented_manifest_may_be_files(tmp_path: Path) -> None:
    masks = written(tmp_path, IMAGES, MASKS)[1]
    names = [f"scene{number}" for number in range(12)]
    lines = [
        {"source-ref": f"train/{name}.jpg", "streets-ref": f"train_annotation/{name}.png", "streets-metadata": {}}
        for name in names
    ]
    (tmp_path / "train.manifest").write_text("".join(json.dumps(line) + "\n" for line in lines))
    channel = Channel.from_folder("train", tmp_path, "application/x-recordio")
    model = small(epochs=1)
    model.train({"train": channel}, RecordingRun())
    assert model.predict(IMAGES).shape == (12, 48, 64)
    annotation = Channel.from_folder("train_annotation", masks)
    words = told(DataError, model.train, {"train": channel, "train_annotation": annotation}, RecordingRun())
    assert "channel 'train_annotation' is not read: train is an augmented manifest" in words
    (tmp_path / "train.manifest").unlink()
    (tmp_path / "a.rec").write_bytes(frame(bytes(24) + png(IMAGES[0])))
    channel = Channel.from_folder("train", tmp_path, "application/x-recordio")
    assert ".rec files hold no masks" in told(DataError, model.train, {"train": channel}, RecordingRun())


# -- groups of one size ------------------------------------------------------------------------------------------------
def test_pictures_go_through_the_network_with_others_of_their_size() -> None:
    sizes = [(4, 4), (6, 4), (4, 4), (4, 4), (8, 8), (6, 4), (4, 4)]
    held = [(number, np.zeros((*size, 3), np.uint8), None) for number, size in enumerate(sizes)]

    def numbers(most: int, pixels: int) -> list[list[int]]:
        return [group.numbers for group in grouped(iter(held), most, pixels, lambda *size: size)]

    assert numbers(2, 1000) == [[0, 2], [1, 5], [3, 6], [4]]
    assert numbers(16, 1000) == [[0, 2, 3, 6], [1, 5], [4]]
    assert numbers(16, 48) == [[0, 2, 3], [4], [1, 5], [6]]
    assert numbers(16, 1) == [[number] for number in range(7)]


def test_few_pictures_wait_for_others_of_their_size() -> None:
    held = ((number, np.zeros((number + 1, 4, 3), np.uint8), None) for number in range(100))
    taken = grouped(held, 5, 1 << 20, lambda *size: size)
    assert next(taken).numbers == [0]
    assert next(held)[0] == 11


# -- asking ------------------------------------------------------------------------------------------------------------
def test_predict_takes_arrays_folders_and_files(model: SemanticSegmentation, tmp_path: Path) -> None:
    expected = model.predict(IMAGES)
    assert (expected.shape, expected.dtype) == ((12, 48, 64), np.uint8)
    assert expected.max() < 3
    assert np.array_equal(model.predict(np.stack(IMAGES)), expected)
    for number, image in enumerate(IMAGES):
        (tmp_path / f"{number:02}.png").write_bytes(png(image))
    assert np.array_equal(model.predict(tmp_path), expected)
    assert np.array_equal(model.predict(sorted(tmp_path.iterdir())[:3]), expected[:3])
    assert np.array_equal(model.predict(tmp_path / "05.png"), expected[5:6])
    various = model.predict([IMAGES[0], IMAGES[1][:20, :30], IMAGES[2]])
    assert [mask.shape for mask in various] == [(48, 64), (20, 30), (48, 64)]
    assert np.array_equal(various[2], expected[2])


def test_masks_do_not_hang_on_what_is_asked_together(model: SemanticSegmentation, monkeypatch: Any) -> None:
    expected = model.predict(IMAGES)
    monkeypatch.setattr(judging, "SEEN_TOGETHER", 1)
    assert np.array_equal(model.predict(IMAGES), expected)


def test_asking_nothing_or_an_unfitted_model_is_told(model: SemanticSegmentation, tmp_path: Path) -> None:
    assert "not fitted" in told(ValueError, small().predict, IMAGES)
    assert f"{tmp_path}: no pictures" in told(DataError, model.predict, tmp_path)
    assert "no pictures" in told(DataError, model.predict, [])
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert "a.jpg: is no picture" in told(DataError, model.predict, tmp_path)


def answered(model: SemanticSegmentation, accept: str, image: np.ndarray | None = None) -> bytes:
    body = png(IMAGES[0] if image is None else image)
    response = model.respond(Request(body, "image/png", accept))
    assert response.content_type == (accept if accept not in ("", "*/*") else "image/png")
    return response.body


@pytest.mark.parametrize("accept", ["image/png", "", "*/*"])
def test_a_mask_is_a_png_of_the_pictures_size(model: SemanticSegmentation, accept: str) -> None:
    body = answered(model, accept)
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">IIBB", body[16:26]) == (64, 48, 8, 0)  # width, height, bits, greyscale
    assert np.array_equal(mask_of(body, "answer"), model.predict(IMAGES[:1])[0])


@pytest.mark.parametrize("accept", ["application/x-protobuf", "application/x-recordio-protobuf"])
def test_probabilities_are_one_record_with_target_and_shape(model: SemanticSegmentation, accept: str) -> None:
    body = answered(model, accept)
    import io

    (payload,) = frames(io.BytesIO(body))
    record = decode(payload)
    assert (set(record.features), record.label) == ({"target", "shape"}, {})
    assert [record.features[name].kind for name in ("target", "shape")] == ["float32", "int32"]
    assert record.features["shape"].values.tolist() == [1, 3, 48, 64]
    found = record.features["target"].values.reshape(1, 3, 48, 64)[0]
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)
    assert (found.argmax(axis=0) == model.predict(IMAGES[:1])[0]).mean() > 0.999


def test_the_record_to_the_byte() -> None:
    from sagesmith.formats.protobuf import encode

    found = frame(encode(requests.record(np.array([[[0.25, 1.0]]], np.float32))))
    target = bytes.fromhex("0a06746172676574120c120a0a080000803e0000803f")
    shape = bytes.fromhex("0a05736861706512083a060a0401010102")
    payload = b"\x0a" + bytes([len(target)]) + target + b"\x0a" + bytes([len(shape)]) + shape
    assert found == struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "words"),
    [
        (png(IMAGES[0]), "text/csv", "image/png", 415, "image/jpeg, image/png, application/x-image"),
        (
            png(IMAGES[0]),
            "image/png",
            "application/json",
            406,
            "'application/json' is not in [image/png, application/x-protobuf",
        ),
        (b"", "image/jpeg", "image/png", 400, "The request is empty"),
        (b"not a picture", "image/jpeg", "image/png", 400, "is no picture"),
        (jpeg(IMAGES[0])[:400], "image/jpeg", "image/png", 400, "cannot be decoded"),
    ],
)
def test_requests_that_cannot_be_answered(
    model: SemanticSegmentation, body: bytes, content_type: str, accept: str, status: int, words: str
) -> None:
    with pytest.raises(RequestError) as raised:
        model.respond(Request(body, content_type, accept))
    assert (raised.value.status, words in str(raised.value)) == (status, True), str(raised.value)


def test_probabilities_that_no_record_holds_are_refused(model: SemanticSegmentation, monkeypatch: Any) -> None:
    monkeypatch.setattr(requests, "MOST_BYTES", 4 * 3 * 48 * 64 - 1)
    words = told(RequestError, answered, model, "application/x-protobuf")
    assert "the probabilities of 3 classes for 64 x 48 pixels take more than" in words
    assert answered(model, "image/png")


def test_a_large_picture_is_answered_in_its_own_size(model: SemanticSegmentation) -> None:
    large = np.repeat(np.repeat(IMAGES[0], 10, axis=0), 10, axis=1)
    mask = model.predict([large])[0]
    assert mask.shape == (480, 640)
    seen = judging.seen_size(480, 640, model.settings["base_size"])
    assert seen == (96, 128)


# -- the artifact ------------------------------------------------------------------------------------------------------
def test_a_model_is_plain_files_and_comes_back(model: SemanticSegmentation, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hyperparams.json", "model_best.params"]
    with np.load(tmp_path / "model_best.params", allow_pickle=False) as archive:
        assert "head.2.bias" in archive.files
    document = json.loads((tmp_path / "hyperparams.json").read_text())
    assert document["hyperparameters"]["num_classes"] == 3
    loaded = SemanticSegmentation.load(tmp_path)
    assert np.array_equal(loaded.predict(IMAGES), model.predict(IMAGES))
    assert np.allclose(loaded.probabilities_of(IMAGES[0]), model.probabilities_of(IMAGES[0]), atol=1e-6)


def test_a_model_that_is_none_is_told(model: SemanticSegmentation, tmp_path: Path) -> None:
    assert "hyperparams.json describes no" in told(ValueError, SemanticSegmentation.load, tmp_path)
    model.save(tmp_path)
    weights = (tmp_path / "model_best.params").read_bytes()
    (tmp_path / "model_best.params").write_bytes(weights[:1000])
    assert "model_best.params is no" in told(ValueError, SemanticSegmentation.load, tmp_path)
    torch.save(model.network_.state_dict(), tmp_path / "model_best.params")
    assert "model_best.params is no" in told(ValueError, SemanticSegmentation.load, tmp_path)
    (tmp_path / "model_best.params").write_bytes(weights)
    document = json.loads((tmp_path / "hyperparams.json").read_text())
    document["hyperparameters"]["num_classes"] = 4
    (tmp_path / "hyperparams.json").write_text(json.dumps(document))
    assert "has shape" in told(ValueError, SemanticSegmentation.load, tmp_path)


def test_scores_and_confusion(model: SemanticSegmentation) -> None:
    counts = model.confusion(IMAGES, MASKS)
    assert counts.sum() == sum(int((mask != 255).sum()) for mask in MASKS)
    predicted = model.predict(IMAGES)
    assert counts[1, 2] == sum(
        int(((mask == 1) & (one == 2)).sum()) for mask, one in zip(MASKS, predicted, strict=True)
    )
    assert "pictures have no weights" in told(ValueError, model.score, IMAGES, MASKS, [1])
    scaled = [np.where(mask == 255, 255, mask * 9).astype(np.uint8) for mask in MASKS]
    assert np.array_equal(model.confusion(IMAGES, scaled, {"scale": 9}), counts)


def test_validation_must_be_a_pair() -> None:
    assert "validation must be a pair" in told(DataError, opening.given, IMAGES, MASKS, IMAGES, None, 3)
