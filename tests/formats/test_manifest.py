"""Manifests: lists of S3 URIs, and records that refer to them."""

from __future__ import annotations

import io

import pytest

from sagesmith.formats.batch import DataError
from sagesmith.formats.manifest import augmented, uris


def test_names_are_appended_to_the_prefix() -> None:
    assert uris(b'[{"prefix": "s3://b/p/"}, "a", "d/b"]') == ["s3://b/p/a", "s3://b/p/d/b"]
    assert uris(b'["s3://b/a"]') == ["s3://b/a"]
    assert uris(b'[{"prefix": "s3://b/p/"}]') == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'[{"prefix": 3}]',
        b'[{"prefix": "http://x"}, "a"]',
        b'["a"]',
        b'["s3://b"]',
        b"[[]]",
        b'[{"prefix":"s3://b/"}, 3]',
    ],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="manifest"):
        uris(text)


def test_augmented_manifests() -> None:
    text = b'{"source-ref": "s3://b/1.jpg", "class": 1}\n\n{"source-ref": "s3://b/2.jpg", "class": 2, "x": 0}\n'
    assert list(augmented(io.BytesIO(text), ["source-ref", "class"]))[1] == {"source-ref": "s3://b/2.jpg", "class": 2}
    assert list(augmented(io.BytesIO(text)))[1]["x"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"class": 1}', "line 1: attribute 'source-ref' is missing; there are: class"),
        (b'\n{"source-ref": "/etc/passwd"}', "line 2: source-ref .* is not an S3 URI"),
        (b"3", "line 1: not a JSON object"),
        (b"{", "line 1: not JSON"),
    ],
)
def test_errors_name_the_line(text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(augmented(io.BytesIO(text), ["source-ref"]))
