"""Answers in the form that most algorithms share: rows in, the fields of `infer` out, by content type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sagesmith.algorithms.declarations import Request, RequestError, Response
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import formats, read_body
from sagesmith.formats.responses import write

if TYPE_CHECKING:
    from sagesmith.algorithms.base import Algorithm


def respond_with_rows(
    algorithm: Algorithm, request: Request, read: Callable[[bytes, str], Any] = read_body
) -> Response:
    """Reads rows, calls `infer`, writes its fields.

    `read` makes what `infer` takes of a body and its content type: rows of numbers, or another kind of example. The
    content type that a request leaves out is the first that the algorithm `accepts`, the answer's the first that it
    `returns`. Parameters of the Accept header (`application/json; verbose=true`) become options of `infer`.

    Raises:
        RequestError: 415 for a content type that is not taken, 406 for an Accept that is not given, 400 for rows that
            cannot be read or do not fit the model.
    """
    given = _taken(algorithm, request)
    accept = negotiated(algorithm, request)
    if not request.body.strip():
        raise RequestError("The request is empty; it must hold at least one row", 400)
    try:
        batch = read(request.body, str(given))
        fields = algorithm.infer(batch, **_options(accept))
    except (DataError, ValueError) as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    return Response(write(fields, accept.name, algorithm.answer_key), accept.name)


def media_type(algorithm: Algorithm, request: Request) -> str:
    """The proper name of a request's content type; the first that the algorithm `accepts` if there is none.

    Raises:
        RequestError: 415, the algorithm does not take it.
    """
    return _proper(_taken(algorithm, request).name)


def _taken(algorithm: Algorithm, request: Request) -> ContentType:
    given = _parsed(request.content_type or algorithm.accepts[0], 415)
    allowed = {_proper(kind) for kind in algorithm.accepts}
    if _proper(given.name) not in allowed:
        raise RequestError(f"Content type {request.content_type!r} is not in [{', '.join(algorithm.accepts)}]", 415)
    return given


def negotiated(algorithm: Algorithm, request: Request) -> ContentType:
    """The first content type of the Accept header that the algorithm returns; its own default for `*/*` and for none.

    Raises:
        RequestError: 406, none of them.
    """
    for one in (request.accept or algorithm.returns[0]).split(","):
        wanted = _parsed(one, 406)
        if wanted.name in ("*/*", ""):
            return ContentType(algorithm.returns[0], wanted.parameters)
        if wanted.name in algorithm.returns:
            return wanted
    raise RequestError(f"Accept {request.accept!r} is not in [{', '.join(algorithm.returns)}]", 406)


def _parsed(text: str, status: int) -> ContentType:
    try:
        return ContentType.parse(text)
    except DataError as error:
        raise RequestError(str(error), status) from None


def _proper(name: str) -> str:
    known = formats()
    return known[name].content_types[0] if name in known else name


def _options(accept: ContentType) -> dict[str, Any]:
    truth = {"true": True, "false": False}
    kept = {key: value for key, value in accept.parameters.items() if key not in ("q", "charset")}
    return {key: truth.get(value.lower(), value) for key, value in kept.items()}
