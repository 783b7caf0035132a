"""What IP Insights reads: lines in all their forms, requests, and bad input, which is refused with its place."""

from __future__ import annotations

import gzip
import ipaddress
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.algorithms import IPInsights
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.algorithms.ipinsights import HASH_SEED
from sagesmith.algorithms.ipinsights.pairs import Pairs, hashes_of, read_body, read_channel
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.ipinsights_pairs import csv, drawn

WORD = (1 << 64) - 1


def plain_hash(entity: bytes, seed: int = HASH_SEED) -> int:
    """The hash in plain Python: FNV-1a, then MurmurHash3's finalizer."""
    word = 0xCBF29CE484222325 ^ seed
    for byte in entity:
        word = (word ^ byte) * 0x100000001B3 & WORD
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * factor & WORD
    return word ^ word >> 33


def read(text: str | bytes, content_type: str = "text/csv") -> Pairs:
    return read_body(HASH_SEED, text.encode() if isinstance(text, str) else text, content_type)


def listed(pairs: Pairs) -> list[tuple[int, str]]:
    return [(int(e), str(ipaddress.IPv4Address(int(ip)))) for e, ip in zip(pairs.entities, pairs.ips, strict=True)]


def test_the_hash_is_fixed_for_ever() -> None:
    # Artifacts hold tables by this hash: another value here would make every saved model answer for other entities.
    assert hashes_of(["user_1"], HASH_SEED).tolist() == [plain_hash(b"user_1")]
    assert plain_hash(b"user_1", 0) == 0xAC0B711A1246CB5B
    names = [f"user_{number}" for number in range(20_000)]
    slots = hashes_of(names, HASH_SEED) % np.uint64(1000)
    counts = np.bincount(slots.astype(int), minlength=1000)
    assert 900 < ((counts - 20) ** 2 / 20).sum() < 1100, "chi-squared of 999 degrees of freedom"


@pytest.mark.parametrize(
    ("line", "entity"),
    [
        ("ann, 192.0.2.1", "ann"), ("ann,192.0.2.1", "ann"), (" \tann \t, \t192.0.2.1 \t", "ann"),
        ('"ann, b",192.0.2.1', "ann, b"), ('"say ""hi""", "192.0.2.1"', 'say "hi"'), ("a b,192.0.2.1", "a b"),
        ("é日,192.0.2.1", "é日"), ("0017,192.0.2.1", "0017"), ('"ann" ,192.0.2.1', "ann"), ('a"b,192.0.2.1', 'a"b'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r", "\n\n\n"])
def test_a_line_is_read(line: str, entity: str, end: str) -> None:
    assert listed(read(line + end)) == [(plain_hash(entity.encode()), "192.0.2.1")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ann", "no second column"), (",192.0.2.1", "an empty entity"), ('"",192.0.2.1', "an empty entity"),
        ("  ,192.0.2.1", "an empty entity"), ("ann,192.0.2.1,7", "more than two"), ('"ann,192.0.2.1', "a quote"),
        ("ann,192.0.2", "'192.0.2' is no IPv4 address"), ("ann,192.0.2.1.5", "no IPv4"), ("ann,192.0.2.01", "no IPv4"),
        ("ann,192.0.2.256", "no IPv4"), ("ann,", "is no"), ("ann,192.0.2.1 x", "no IPv4"), ("ann,1.2.3.-4", "is no IP"),
        ("ann,2001:db8::1", "'2001:db8::1' is an IPv6 address; only IPv4"), ("ann,::ffff:1.2.3.4", "IPv6"),
        ("user,ip", "'ip' is no IPv4 address"), ("ann,1.2.3.4000", "no IPv4"), ('ann,"1.2.3.4', "no IPv4"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bad_line_is_named(line: str, words: str, end: str) -> None:
    with pytest.raises(DataError, match="line 4: .*" + words):
        read(f"bob,192.0.2.1{end}{end}eve,192.0.2.2{end}{line}{end}bob,192.0.2.1{end}")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        pairs = read(text)
    except DataError:
        return
    assert len(pairs) == sum(bool(line) for line in text.removeprefix(b"\xef\xbb\xbf").splitlines())


@given(st.lists(st.tuples(st.text("ab ,\"'é\t", min_size=1), st.ip_addresses(v=4)), min_size=1))
def test_what_csv_writes_is_read_again(rows: list[tuple[str, Any]]) -> None:
    quoted = ['"' + entity.replace('"', '""') + '"' for entity, _ in rows]
    pairs = read("".join(f"{entity},{ip}\n" for entity, (_, ip) in zip(quoted, rows, strict=True)))
    assert listed(pairs) == [(plain_hash(entity.encode()), str(ip)) for entity, ip in rows]


def test_requests_mean_the_same_in_every_form() -> None:
    rows = drawn(20).tolist()
    expected = listed(read(csv(drawn(20))))
    plain = [{"features": row} for row in rows]
    nested = [{"data": {"features": {"values": row}}} for row in rows]
    for instances in (plain, nested):
        assert listed(read(json.dumps({"instances": instances}), "application/json")) == expected
        lines = "\n".join(map(json.dumps, instances))
        assert listed(read(lines, "application/jsonlines")) == expected
    assert listed(read('{"instances": [{"features": [17, " 192.0.2.1"]}]}', "application/json")) == [
        (plain_hash(b"17"), "192.0.2.1")
    ]


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ({"features": ["a"]}, "instance 1: 1 features; two"), ({"features": "a,1.2.3.4"}, "not of the form"),
        ({"features": ["a", "::1"]}, "IPv6"), ({"features": ["a", 16909060]}, "no IPv4"), ([1], "not of the form"),
        ({"features": [None, "1.2.3.4"]}, "neither text nor"), ({"features": [1.5, "1.2.3.4"]}, "neither text nor"),
        ({"features": [True, "1.2.3.4"]}, "neither text nor"), ({"features": [" ", "1.2.3.4"]}, "empty entity"),
        ({"data": {"features": {"keys": [0], "shape": [2]}}}, "not of the form"), ({"data": 5}, "not of the form"),
    ],
)  # fmt: skip
def test_bad_instances_are_named(instance: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(json.dumps({"instances": [instance]}), "application/json")


@pytest.fixture(scope="module")
def model() -> IPInsights:
    return IPInsights(**IPInsights.example).fit(drawn(120))


def ask(model: IPInsights, accept: str, body: str = csv(drawn(3)), content_type: str = "text/csv") -> Any:
    return model.respond(Request(body.encode(), content_type, accept)).body.decode()


def test_answers_have_spec_fields(model: IPInsights) -> None:
    scores = model.predict(drawn(3)).tolist()
    assert json.loads(ask(model, "application/json")) == {"predictions": [{"dot_product": score} for score in scores]}
    assert [json.loads(line) for line in ask(model, "application/jsonlines").splitlines()] == [
        {"dot_product": score} for score in scores
    ]


@pytest.mark.parametrize("accept", ["application/json; verbose=True", "application/jsonlines;verbose=true"])
def test_verbose_answers_carry_the_vectors(model: IPInsights, accept: str) -> None:
    text = ask(model, accept)
    rows = json.loads(text)["predictions"] if "json;" in accept else [json.loads(line) for line in text.splitlines()]
    for row in rows:
        assert list(row) == ["dot_product", "entity_embedding", "ip_embedding"]
        assert len(row["entity_embedding"]) == len(row["ip_embedding"]) == 8
        assert np.dot(row["entity_embedding"], row["ip_embedding"]) == pytest.approx(row["dot_product"], rel=1e-5)
    assert json.loads(ask(model, "application/json;verbose=false"))["predictions"][0].keys() == {"dot_product"}


@pytest.mark.parametrize(
    ("content_type", "accept", "status"),
    [
        ("application/x-recordio-protobuf", "", 415), ("text/libsvm", "", 415), ("text/csv", "text/csv", 406),
        ("text/csv", "application/x-recordio-protobuf", 406), ("text/csv;label_size=1", "", 400),
        ("text/csv;delimiter=|", "", 400), ("application/json", "", 400),
    ],
)  # fmt: skip
def test_what_is_not_taken_has_its_status(model: IPInsights, content_type: str, accept: str, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        ask(model, accept, content_type=content_type)
    assert caught.value.status == status


def test_files_of_a_channel(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("bob,192.0.2.2\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"ann,192.0.2.1\n"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.csv").write_bytes("čyril,192.0.2.3".encode())
    (tmp_path / "_SUCCESS").write_text("no pairs")
    (tmp_path / "empty.csv").write_text("")
    pairs = read_channel(Channel.from_folder("train", tmp_path, "text/csv"), HASH_SEED)
    names = [b"ann", b"bob", "čyril".encode()]
    assert listed(pairs) == [(plain_hash(name), f"192.0.2.{number}") for number, name in enumerate(names, 1)]
    (tmp_path / "b.csv").write_text("bob,192.0.2.2\nbob;192.0.2.2\n")
    with pytest.raises(DataError, match=r"b\.csv, line 2: no second column"):
        read_channel(Channel.from_folder("train", tmp_path, "text/csv"), HASH_SEED)
    latin = Channel.from_files("train", [tmp_path / "l"], "text/csv;charset=latin-1")
    (tmp_path / "l").write_bytes("é,192.0.2.1".encode("latin-1"))
    assert listed(read_channel(latin, HASH_SEED)) == [(plain_hash("é".encode()), "192.0.2.1")]


def test_a_channel_longer_than_a_piece(tmp_path: Path) -> None:
    rows = 400_000
    (tmp_path / "long.csv").write_text("".join(f"user_{number},10.{number % 251}.0.1\n" for number in range(rows)))
    pairs = read_channel(Channel.from_folder("train", tmp_path, "text/csv"), HASH_SEED)
    assert len(pairs) == rows
    assert np.array_equal(pairs.entities, hashes_of([f"user_{number}" for number in range(rows)], HASH_SEED))
    with (tmp_path / "long.csv").open("a") as file:
        file.write("nobody\n")
    with pytest.raises(DataError, match=f"line {rows + 1}: no second column"):
        read_channel(Channel.from_folder("train", tmp_path, "text/csv"), HASH_SEED)


def test_one_row_is_enough_and_none_is_not(tmp_path: Path) -> None:
    model = IPInsights(**IPInsights.example).fit([["ann", "192.0.2.1"]], validation=[["ann", "192.0.2.1"]])
    assert np.isfinite(model.predict([["ann", "192.0.2.1"]])).all()
    alone = {**IPInsights.example, "random_negative_sampling_rate": 0}
    run = RecordingRun()
    IPInsights(**alone).fit([["ann", "192.0.2.1"]], validation=[["ann", "192.0.2.1"]], run=run)
    assert not [line for line in run.lines if "discriminator_auc" in line], "nothing to tell it from"
    with pytest.raises(DataError, match="the train channel holds no pairs"):
        IPInsights(**IPInsights.example).fit(Channel.from_folder("train", tmp_path, "text/csv"))


def test_a_torn_model_is_refused(model: IPInsights, tmp_path: Path) -> None:
    model.save(tmp_path)
    arrays = dict(np.load(tmp_path / "model_algo-1"))
    for name, wrong in (("entities", arrays["entities"][:, 1:]), ("prefixes", arrays["prefixes"][1:]), ("known", None)):
        changed = arrays | {name: wrong}
        with (tmp_path / "model_algo-1").open("wb") as file:
            np.savez(file, **{key: value for key, value in changed.items() if value is not None})
        with pytest.raises(ValueError, match="is no ipinsights model"):
            IPInsights.load(tmp_path)
