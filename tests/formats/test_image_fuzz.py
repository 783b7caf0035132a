"""Whatever the bytes: pictures, records and lists are read back as they were written, or refused with a DataError."""

from __future__ import annotations

import io
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from sagesmith.algorithms.images.pictures import Picture
from sagesmith.algorithms.object_detection.annotations import Invalid, objects_of
from sagesmith.formats.errors import DataError
from sagesmith.formats.image_lists import Listed, read_list, write_list
from sagesmith.formats.image_records import ImageRecord, framed, packed, payloads, record_at, records, scan
from sagesmith.formats.images import decoded, jpeg, mask_of, png, size_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF data, which Pillow then leaves out
MAGIC = struct.pack("<I", 0xCED7230A)
PIXELS = np.random.default_rng(0).integers(256, size=(24, 40, 3), dtype=np.uint8)


def attempt(read: Callable[[], Any], name: str) -> Any:
    """What `read` gives; None when it is refused with an error that begins with the name."""
    said = name
    try:
        return read()
    except (DataError, Invalid) as error:
        said = str(error)
    assert said.startswith(name)
    return None


def tagged() -> bytes:
    """A JPEG with EXIF."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


WHOLE = (jpeg(PIXELS), png(PIXELS), png(PIXELS[:, :, 0]), tagged())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture of which some bytes are others, and perhaps the end is missing."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=150, deadline=None)
@given(damaged() | st.binary(max_size=200), st.none() | st.integers(1, 64), st.booleans())
def test_damaged_pictures_are_decoded_or_refused(data: bytes, at_least: int | None, grey: bool) -> None:
    for read in (
        lambda: decoded(data, "a.jpg", at_least=at_least, grey=grey), lambda: size_of(data, "a.jpg"),
        lambda: mask_of(data, "a.jpg"),
    ):  # fmt: skip
        found = attempt(read, "a.jpg: ")
        assert found is None or isinstance(found, tuple) or found.dtype == np.uint8


PAYLOADS = st.lists(st.sampled_from([b"abcd", b"xy", b"\0", MAGIC]), max_size=12).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=4), PAYLOADS.map(lambda one: one + b"!"))))
def test_records_come_back_wherever_the_magic_lies(given_: list[tuple[list[int], bytes]]) -> None:
    written = [ImageRecord(np.float32(label), i, data) for i, (label, data) in enumerate(given_)]
    data = b"".join(framed(packed(record)) for record in written)
    starts = scan(data, "a.rec")
    found = [record_at(memoryview(data), int(at), "a.rec") for at in starts[:-1]]
    for again in (found, list(records(io.BytesIO(data), "pipe"))):
        assert [(one.label.tolist(), one.id, bytes(one.data)) for one in again] == [
            (one.label.tolist(), one.id, one.data) for one in written
        ]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 200), st.integers(0, 255))
def test_damaged_records_are_read_or_refused(tail: bytes, at: int, byte: int) -> None:
    data = bytearray(framed(packed(ImageRecord(np.float32([1, 2]), 3, MAGIC * 3 + b"abc"))) + tail)
    data[at % len(data)] = byte
    for read in (
        lambda: [record_at(bytes(data), int(one), "a.rec, record ") for one in scan(bytes(data), "a.rec")[:-1]],
        lambda: list(records(io.BytesIO(data), "a.rec")), lambda: list(payloads(io.BytesIO(data), "a.rec")),
    ):  # fmt: skip
        attempt(read, "a.rec, record ")


NAMES = st.text(st.characters(exclude_characters="\t\n\r\\\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(-1, 5), st.floats(width=32), NAMES), min_size=1, max_size=5))
def test_lists_come_back_or_are_refused(lines: list[tuple[int, float, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.lst"
        write_list(path, [Listed(number, np.float32([label]), name) for number, label, name in lines])
        found = attempt(lambda: read_list(path, labels=1), str(path))
        if found is None:
            return
        assert [one.number for one in found] == [number for number, _, _ in lines]
        for one, (_, label, name) in zip(found, lines, strict=True):
            assert abs(one.label[0] - label) <= 1e-6 + 1e-6 * abs(label)
            assert one.path == str(Path(name.strip()))
            assert (Path(folder) / one.path).resolve().is_relative_to(Path(folder).resolve())


KEYS = st.sampled_from(["image_size", "annotations", "width", "height", "class_id", "left", "top"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)
BOXES = st.fixed_dictionaries(
    {"image_size": st.just([{"width": 9, "height": 9}]), "annotations": st.lists(st.dictionaries(KEYS, JSON) | JSON)}
)


@settings(max_examples=100, deadline=None)
@given(JSON | BOXES)
def test_any_json_is_an_annotation_or_refused(content: object) -> None:
    picture = Picture("1.jpg", np.zeros((9, 9, 3), np.uint8), json.dumps(content).encode())
    attempt(lambda: objects_of(picture, 10, 100), "1.jpg")


@settings(max_examples=150, deadline=None)
@example([2.0, float("inf")])
@example([7.0, 2.305843009213694e18, 0.0, 0.0, 0.0, 0.0, 0.0])
@given(st.lists(st.floats(width=32) | st.integers(-2, 7).map(float), max_size=14))
def test_any_label_is_boxes_or_refused(label: list[float]) -> None:
    picture = Picture("record 1", b"", np.float32(label))
    found = attempt(lambda: objects_of(picture, 10, 100), "record 1")
    if found is not None:
        rows, _ = found
        assert (rows[:, 1:3] < rows[:, 3:]).all()
        assert ((rows[:, 1:] >= 0) & (rows[:, 1:] <= 1)).all()
