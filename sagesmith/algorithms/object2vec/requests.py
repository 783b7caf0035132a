"""requests: what a served model is asked: the score of pairs, or the vectors of one side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.object2vec.pairs import Pairs
from sagesmith.algorithms.object2vec.reading import read_body
from sagesmith.algorithms.responding import media_type, negotiated
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.responses import write

if TYPE_CHECKING:
    from sagesmith.algorithms.object2vec import Object2Vec

JSONLINES = "application/jsonlines"
PARAMETER = "infer_max_seqlens"
LONGEST = 5000


def respond(model: Object2Vec, request: Request) -> Response:
    """Answers in the form of the request unless Accept says otherwise.

    Raises:
        RequestError: 415 for another content type, 406 for another Accept, 400 for what cannot be read.
    """
    name = media_type(model, request)
    given = ContentType.parse(request.content_type or model.accepts[0])
    asked = request.accept if request.accept.split(";", 1)[0].strip() not in ("", "*/*") else name
    accept = negotiated(model, replace(request, accept=asked)).name
    if not request.body.strip():
        raise RequestError("The request is empty; it must hold at least one instance", 400)
    try:
        pairs: Pairs = read_body(request.body, name == JSONLINES, model.check_tokens)
        fields = model.infer(pairs, longest=_lengths(given))
    except (DataError, ValueError) as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    return Response(write(fields, accept, model.answer_key), accept)


def _lengths(given: ContentType) -> tuple[int, int] | None:
    """The greatest lengths that `infer_max_seqlens=<of in0>,<of in1>` asks for; None if it does not."""
    text = given.parameters.get(PARAMETER)
    if text is None:
        return None
    numbers = [part.strip() for part in text.split(",")]
    digits = all(n.isascii() and n.isdigit() and len(n) < 9 for n in numbers)
    if len(numbers) != 2 or not digits or not all(1 <= int(n) <= LONGEST for n in numbers):
        raise DataError(f"{PARAMETER}={text[:60]!r} is not of the form <in0>,<in1>, whole numbers of 1 to {LONGEST}")
    return int(numbers[0]), int(numbers[1])
