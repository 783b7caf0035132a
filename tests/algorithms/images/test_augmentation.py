"""Pixels: crops as Pillow makes them, colours as colorsys does, geometry where it should be."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sagesmith.algorithms.images.augmentation import (
    Window,
    augmented,
    coloured,
    random_map,
    resized,
    taken,
    warped,
    whole,
)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(30, 30), (64, 48), (7, 9), (120, 160), (60, 80), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_window_is_scaled_as_pillow_does(noise, size, channels):
    image = np.ascontiguousarray(noise[:, :, :channels])
    box = (3.5, 2.25, 73.0, 59.5)
    into = np.empty((*size, channels), np.uint8)
    taken(image, Window(box[0], box[1], box[2] - box[0], box[3] - box[1]), into)
    pillow = Image.fromarray(image.squeeze()).resize(size[::-1], Image.Resampling.BILINEAR, box)
    expected = np.asarray(pillow).reshape(into.shape)
    # Pillow stops its triangles at the box; ours look at the pixels beyond it, so only the rim differs.
    rim = 1 if min(size) > 8 else 0
    inner = np.s_[rim : size[0] - rim, rim : size[1] - rim] if rim else np.s_[:0]
    assert np.abs(into[inner].astype(int) - expected[inner]).max(initial=0) <= 1


@pytest.mark.parametrize("size", [(30, 30), (120, 160), (1, 1), (60, 80)])
def test_the_whole_picture_is_scaled_as_pillow_does(noise, size):
    expected = np.asarray(Image.fromarray(noise).resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.abs(resized(noise, *size).astype(int) - expected).max() <= 1


def test_flips_and_plain_cuts_are_exact(noise):
    into = np.empty((20, 30, 3), np.uint8)
    taken(noise, Window(5, 7, 30, 20), into)
    assert (into == noise[7:27, 5:35]).all()
    taken(noise, Window(5, 7, 30, 20), into, flip=True)
    assert (into == noise[7:27, 5:35][:, ::-1]).all()


def test_what_lies_beyond_the_picture_is_filled(noise):
    into = np.empty((120, 160, 3), np.uint8)
    taken(noise, Window(-40, -30, 160, 120), into, fill=(1, 2, 3))
    assert (into[30:90, 40:120] == noise).all()
    assert (into[:30] == (1, 2, 3)).all()
    assert (into[:, 120:] == (1, 2, 3)).all()
    taken(noise, Window(500, 500, 10, 10), into, fill=9)
    assert (into == 9).all()


def test_colours_move_as_in_hsl():
    random = np.random.default_rng(1)
    image = random.integers(256, size=(8, 8, 3), dtype=np.uint8)
    for hue, saturation, lightness in ((0, 0, 0), (36, 0, 0), (-36, 50, -50), (10, -50, 50)):
        found = image.copy()
        coloured(found, hue, saturation, lightness)
        for before, after in zip(image.reshape(-1, 3), found.reshape(-1, 3), strict=True):
            h, light, s = colorsys.rgb_to_hls(*(before / 255))
            light, s = np.clip(light + lightness / 255, 0, 1), np.clip(s + saturation / 255, 0, 1)
            assert after == pytest.approx(np.array(colorsys.hls_to_rgb(h + hue / 180, light, s)) * 255, abs=1.01)


def test_warping_by_nothing_is_a_cut(noise):
    into = np.empty((20, 30, 3), np.uint8)
    warped(noise, np.eye(2), 5, 7, into, flip=True)
    assert (into == noise[7:27, 5:35][:, ::-1]).all()


def test_a_quarter_turn_about_the_middle(noise):
    square = np.ascontiguousarray(noise[:, :60])
    into = np.empty_like(square)
    warped(square, np.array([[0.0, -1.0], [1.0, 0.0]]), 0, 0, into)
    assert np.abs(into.astype(int) - np.rot90(square, -1)).max() <= 1


def test_random_maps_stay_within_the_documented_limits():
    for dice in np.random.default_rng(0).random((200, 3)):
        matrix = random_map(dice)
        across, down = np.hypot(*matrix[1]), abs(np.linalg.det(matrix)) / np.hypot(*matrix[1])
        assert 0.75 - 1e-9 <= across / down <= 1.25 + 1e-9
        assert abs(np.degrees(np.arctan2(-matrix[1, 0], matrix[1, 1]))) <= 10
    assert random_map([0.5, 0.5, 0.5]) == pytest.approx(np.eye(2))


@pytest.mark.parametrize("level", [None, "crop", "crop_color", "crop_color_transform"])
@pytest.mark.parametrize("resize", [None, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_fills_the_input(noise, level, resize, channels):
    image, into = np.ascontiguousarray(noise[:, :, :channels]), np.empty((32, 24, channels), np.uint8)
    seen = []
    for seed in (1, 1, 2):
        augmented(image, into, "1.jpg", level=level, resize=resize, random=np.random.default_rng(seed))
        seen.append(into.copy())
    assert (seen[0] == seen[1]).all()
    assert (seen[0] != seen[2]).any() == (level is not None)


def test_crops_are_everywhere_and_flipped_half_of_the_time():
    image = np.zeros((4, 4, 1), np.uint8)
    image[..., 0] = np.arange(16).reshape(4, 4)
    random, into = np.random.default_rng(0), np.empty((2, 2, 1), np.uint8)
    seen = set()
    for _ in range(400):
        augmented(image, into, "", level="crop", random=random)
        seen.add(tuple(into.ravel().tolist()))
    assert len(seen) == 18  # nine places, flipped or not


def test_without_a_level_the_middle_is_taken(noise):
    into = np.empty((20, 20, 3), np.uint8)
    augmented(noise, into, "")
    assert (into == noise[20:40, 30:50]).all()
    assert whole(noise) == (0, 0, 80, 60)


SIDES, STARTS, SPANS = st.integers(1, 40), st.floats(-60, 60), st.floats(0.3, 120)


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, STARTS, STARTS, SPANS, SPANS, st.booleans(), st.sampled_from([1, 3]))
def test_every_window_of_a_plain_picture_is_plain_and_filled_beyond(  # weights sum to one, and every pixel is written
    height, width, down, across, left, top, span_x, span_y, flip, channels
):
    image = np.full((height, width, channels), 200, np.uint8)
    into = np.full((down, across, channels), 77, np.uint8)
    taken(image, Window(left, top, span_x, span_y), into, flip=flip, fill=9)
    columns = left + (np.arange(across) + 0.5) * span_x / across
    rows = top + (np.arange(down) + 0.5) * span_y / down
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    expected = np.where(inside[:, ::-1] if flip else inside, 200, 9)
    assert (into == expected[..., None]).all()
