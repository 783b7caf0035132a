"""requests: what a served model is asked, in JSON, JSON Lines and RecordIO, and its answers.

JSON and JSON Lines hold texts with spaces between tokens, RecordIO ids. An answer has the form of its request unless
Accept says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.first_party import RECORDIO
from sagesmith.algorithms.responding import media_type, negotiated
from sagesmith.algorithms.seq2seq.sentences import Sentences, decoded, ids_of
from sagesmith.algorithms.seq2seq.vocabulary import PAD, Vocabulary
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.frames import frame, frames
from sagesmith.formats.nesting import load_json
from sagesmith.formats.protobuf import Record, Value, encode
from sagesmith.formats.source import Source

if TYPE_CHECKING:
    from sagesmith.algorithms.seq2seq import Seq2Seq
    from sagesmith.algorithms.seq2seq.beam import Translation

JSON, JSONLINES = "application/json", "application/jsonlines"
MATRIX = "attention_matrix"


@dataclass(frozen=True)
class Asked:
    """A sentence, and whether its attention matrix is wanted."""

    ids: np.ndarray
    matrix: bool = False


def respond(model: Seq2Seq, request: Request) -> Response:
    """
    Raises:
        RequestError: 415 for another content type, 406 for another Accept, 400 for what cannot be read.
    """
    kind = media_type(model, request)
    accept = negotiated(model, replace(request, accept=request.accept if _says(request.accept) else kind)).name
    source, target = model.vocabularies_
    try:
        asked = list(_READERS[kind](request.body, source))
        if not asked:
            raise NoData("the request holds no sentences")
        wanted = any(one.matrix for one in asked)
        found = model.infer(Sentences.of([one.ids for one in asked]), matrix=wanted)["translation"]
    except (DataError, ValueError) as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    return Response(_write(asked, found, target, accept), accept)


def _says(accept: str) -> bool:
    return bool(accept) and accept.split(";", 1)[0].strip() != "*/*"


def _read_json(body: bytes, source: Vocabulary) -> Iterable[Asked]:
    document = load_json(body, "request")
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise DataError('request: JSON without a list "instances" at its top')
    for number, instance in enumerate(document["instances"], 1):
        place = f"instance {number}"
        yield Asked(source.encode(_text(instance, "data", place).split()), _configured(instance, place))


def _read_jsonlines(body: bytes, source: Vocabulary) -> Iterable[Asked]:
    for number, line in enumerate(body.splitlines(), 1):
        if line.strip():
            place = f"line {number}"
            content = load_json(line, place)
            yield Asked(source.encode(_text(content, "source", place).split()), _configured(content, place))


def _read_recordio(body: bytes, source: Vocabulary) -> Iterable[Asked]:
    with Source.of_body(body).open() as stream:
        for number, payload in enumerate(frames(stream, "request"), 1):
            place = f"record {number}"
            record = decoded(payload, place)
            ids = ids_of(record, "source", place)
            wrong = (ids <= PAD) | (ids >= len(source))
            if wrong.any():
                raise DataError(
                    f"{place}: source holds the id {ids[wrong][0]}; the vocabulary has 1 to {len(source) - 1}"
                )
            content = {"configuration": load_json(record.configuration.encode(), place)} if record.configuration else {}
            yield Asked(ids, _configured(content, place))


_READERS = {JSON: _read_json, JSONLINES: _read_jsonlines, RECORDIO: _read_recordio}


def _text(instance: Any, name: str, place: str) -> str:
    if not isinstance(instance, dict) or not isinstance(instance.get(name), str):
        raise DataError(f'{place}: not of the form {{"{name}": "tokens with spaces between them"}}')
    return str(instance[name])


def _configured(instance: dict[str, Any], place: str) -> bool:
    """Whether `configuration` asks for the matrix; SageMaker's sample writes "true", its guide true."""
    given = instance.get("configuration") or {}
    if not isinstance(given, dict) or set(given) - {MATRIX}:
        raise DataError(f'{place}: configuration {str(given)[:60]} is not of the form {{"{MATRIX}": "true"}}')
    value = str(given.get(MATRIX, "false")).lower()
    if value not in ("true", "false"):
        raise DataError(f"{place}: {MATRIX} {value[:40]!r} is not true or false")
    return value == "true"


def _write(asked: list[Asked], found: list[Translation], target: Vocabulary, accept: str) -> bytes:
    if accept == RECORDIO:
        return b"".join(frame(encode(_record(*pair))) for pair in zip(asked, found, strict=True))
    answers = [_answer(*pair, target) for pair in zip(asked, found, strict=True)]
    if accept == JSON:
        return json.dumps({"predictions": answers}, ensure_ascii=False).encode()
    return "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers).encode()


def _answer(asked: Asked, found: Translation, target: Vocabulary) -> dict[str, Any]:
    answer: dict[str, Any] = {"target": " ".join(target.decode(found.ids))}
    if asked.matrix and found.matrix is not None:
        answer["matrix"] = found.matrix.tolist()
    return answer


def _record(asked: Asked, found: Translation) -> Record:
    record = Record({"target": Value("int32", np.array(found.ids, np.int32))})
    if asked.matrix and found.matrix is not None:
        shape = np.array(found.matrix.shape, np.uint64)
        record.features["matrix"] = Value("float32", found.matrix.ravel(), None, shape)
    return record
