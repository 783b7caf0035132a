"""Responses: float32 printed as doubles, in every content type of an answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sagesmith.formats import encode_records
from sagesmith.formats.batch import DataError
from sagesmith.formats.responses import write, write_csv, write_json, write_jsonlines, write_recordio

FIELDS = {"score": np.array([0.23653685, 1.0]), "label": np.array([3, 4]), "parts": [[0.4, 0.5], [1]]}
PRINTED = float(np.float32(0.23653685))


def test_json() -> None:
    body = write_json(FIELDS)
    assert b'"score": 0.2365368' in body
    assert json.loads(body)["predictions"][0] == {"score": PRINTED, "label": 3, "parts": [float(np.float32(0.4)), 0.5]}
    assert list(json.loads(write_json(FIELDS, "scores"))) == ["scores"]
    assert write_json({"score": np.float32([0.1])}) == b'{"predictions": [{"score": 0.10000000149011612}]}'
    assert write_json({"score": np.array([np.nan])}) == b'{"predictions": [{"score": NaN}]}'


def test_json_lines_end_each_line() -> None:
    lines = write_jsonlines({"score": np.array([1.0, 2.0])})
    assert lines == b'{"score": 1.0}\n{"score": 2.0}\n'


def test_csv_quotes_lists() -> None:
    assert (
        write_csv({"label": np.array([1, 2]), "p": [[0.5, 0.25], [1.0, 0.0]]}) == b'1,"[0.5, 0.25]"\n2,"[1.0, 0.0]"\n'
    )


def test_accept_chooses_the_form() -> None:
    fields = {"score": np.array([0.25])}
    assert write(fields, "application/json; verbose=true") == write_json(fields)
    assert (
        write(fields, "application/x-recordio-protobuf") == write_recordio(fields) == encode_records([{"score": 0.25}])
    )
    with pytest.raises(DataError, match="known: application/json"):
        write(fields, "text/html")
