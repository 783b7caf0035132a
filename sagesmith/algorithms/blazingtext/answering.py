"""answering: requests to a served model, in SageMaker's forms.

    word vectors   {"instances": ["a", "b"]}  →  [{"vector": […], "word": "a"}, …]
    classifier     {"instances": ["a text", …], "configuration": {"k": 2}}  →  [{"label": […], "prob": […]}, …]
    JSON Lines     {"source": "a text", "k": 2}  →  {"prob": […], "label": […]}; of words {"vector": […], "word": "a"}

The answer has the content type of the request: an Accept header that asks for another is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sagesmith.algorithms.blazingtext.model import Model
from sagesmith.algorithms.declarations import Request, RequestError, Response
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json

JSON, LINES = "application/json", "application/jsonlines"
FORM = '{"instances": [text, …], "configuration": {"k": 1}}'


def answered(model: Model, request: Request) -> Response:
    """The answer to a request.

    Raises:
        RequestError: 415 for another content type, 400 for a body of another form, naming instance or line.
    """
    try:
        kind = ContentType.parse(request.content_type or JSON).name
        if kind not in (JSON, LINES):
            raise RequestError(f"Content type {request.content_type!r} is not in [{JSON}, {LINES}]", 415)
        texts, counts = _of_json(request.body) if kind == JSON else _of_lines(request.body)
        rows = _vectors(model, texts) if not model.is_classifier else _labels(model, texts, counts, kind == LINES)
    except DataError as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    if kind == JSON:
        return Response(json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogateescape"), JSON)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return Response(lines.encode("utf-8", "surrogateescape"), LINES)


def _of_json(body: bytes) -> tuple[list[str], list[int]]:
    document = load_json(body, "request")
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list) or not instances:
        raise DataError(f"request: not of the form {FORM}")
    texts = [_text(instance, f"instance {number}") for number, instance in enumerate(instances, 1)]
    configuration = document.get("configuration", {})
    if not isinstance(configuration, dict):
        raise DataError(f"request: configuration {configuration!r:.80} is no object")
    if unknown := sorted(configuration.keys() - {"k"}):
        raise DataError(f"configuration has no key {unknown[0]!r:.80}; it has: k")
    k = _k(configuration.get("k", 1), "configuration")
    return texts, [k] * len(texts)


def _of_lines(body: bytes) -> tuple[list[str], list[int]]:
    texts, counts = [], []
    for number, line in enumerate(body.splitlines(), 1):
        if not line.strip():
            continue
        value = load_json(line, f"line {number}")
        if not isinstance(value, dict) or "source" not in value:
            raise DataError(f'line {number}: not of the form {{"source": text, "k": 1}}')
        texts.append(_text(value["source"], f"line {number}"))
        counts.append(_k(value.get("k", 1), f"line {number}"))
    if not texts:
        raise DataError("request: it is empty; it must hold at least one line")
    return texts, counts


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: {value!r:.80} is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: half of a surrogate pair is no text") from None
    return value


def _k(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DataError(f"{place}: k must be a whole number from 1 on, found {value!r:.80}")
    return value


def _vectors(model: Model, words: list[str]) -> Iterable[dict[str, Any]]:
    vectors = model.vectors(words).tolist()
    return [{"vector": vector, "word": word} for vector, word in zip(vectors, words, strict=True)]


def _labels(model: Model, texts: list[str], counts: list[int], lines: bool) -> Iterable[dict[str, Any]]:
    found = model.best(texts, max(counts))
    rows = []
    for labels, chances, k in zip(found.labels.tolist(), found.probabilities.tolist(), counts, strict=True):
        named = {"label": [model.labels[label] for label in labels[:k]], "prob": chances[:k]}
        rows.append({"prob": named["prob"], "label": named["label"]} if lines else named)
    return rows
