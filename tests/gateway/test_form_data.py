"""Forms in pieces of any size: the parts that were written, or a clean refusal; never more memory than they need."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3 import encode_multipart_formdata

from sagesmith.core.operation import ApiError
from sagesmith.gateway.form_data import FILE, FormReader

LIMIT = settings(max_examples=200, deadline=None)
TYPE = "multipart/form-data; boundary=b"


async def pieces(body: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    for start, end in itertools.pairwise(places):
        yield body[start:end]


def read(body: bytes, cuts: list[int], content_type: str = TYPE) -> tuple[dict[str, str], str, bytes]:
    async def run() -> tuple[dict[str, str], str, bytes]:
        reader = FormReader(pieces(body, cuts), content_type)
        fields = await reader.fields()
        return fields, reader.filename, b"".join([piece async for piece in reader.file()])

    return asyncio.run(run())


texts = st.text(st.characters(codec="utf-8"), max_size=30)
cuts = st.lists(st.integers(0, 400), max_size=12)


@LIMIT
@given(
    fields=st.dictionaries(st.text("abcdefgh-", min_size=1, max_size=8).filter(lambda name: name != FILE), texts),
    data=st.binary(max_size=200) | st.text("\r\n-b", max_size=60).map(str.encode),
    cuts=cuts,
)
def test_what_was_written_is_read(fields: dict[str, str], data: bytes, cuts: list[int]) -> None:
    boundary = "not-in-any-of-these-b"
    body, content_type = encode_multipart_formdata([*fields.items(), (FILE, ("dir/f.csv", data))], boundary)
    assert read(body, cuts, content_type) == (fields, "f.csv", data)


@LIMIT
@given(
    body=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [b"--b", b"\r\n--b", b"\r\n", b"--", b'Content-Disposition: form-data; name="file"', b"\xff", b": ;=", b"x"]
        ),
        max_size=12,
    ).map(b"".join),
    cuts=cuts,
)
@example(body=b"--b\r\n\r\n\r\n--b--", cuts=[])
@example(body=b"--b--", cuts=[])
def test_any_bytes_are_a_form_or_refused(body: bytes, cuts: list[int]) -> None:
    try:
        whole = read(body, [])
    except ApiError as error:
        refused = error
        with pytest.raises(ApiError, match=refused.code):
            read(body, cuts)
    else:
        assert read(body, cuts) == whole


@LIMIT
@given(st.text(max_size=60))
def test_any_content_type_is_read_or_refused(content_type: str) -> None:
    for text in (content_type, f"multipart/form-data;{content_type}", f"multipart/form-data; boundary={content_type}"):
        with pytest.raises(ApiError) as raised:  # there is no file in it, if nothing else
            read(b"--b--", [], text)
        assert raised.value.status == 400


def test_a_file_of_any_size_takes_no_memory() -> None:
    piece, count = b"\r\n--" * 16_384, 500

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(count):
            yield piece
        yield b"\r\n--b--\r\n"

    async def run() -> int:
        reader = FormReader(body(), TYPE)
        await reader.fields()
        return sum([len(part) async for part in reader.file()])

    tracemalloc.start()
    try:
        assert asyncio.run(run()) == len(piece) * count
        assert tracemalloc.get_traced_memory()[1] < 20 * len(piece)
    finally:
        tracemalloc.stop()


def test_fields_that_never_end_are_refused_before_they_fill_the_memory() -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        yield b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\n'
        while True:
            taken += 1024
            yield b"x" * 1024

    with pytest.raises(ApiError) as raised:
        asyncio.run(FormReader(body(), TYPE).fields())
    assert raised.value.code == "MaxPostPreDataLengthExceededError"
    assert taken < 100 * 1024
