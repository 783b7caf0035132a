"""requests: the picture of a request to a served model."""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.declarations import Request, RequestError
from sagesmith.formats.errors import DataError
from sagesmith.formats.images import decoded

PICTURE_TYPES = ("image/jpeg", "image/png", "application/x-image")


def picture_of(request: Request, *, grey: bool = False, at_least: int | None = None) -> np.ndarray:
    """The picture that a request's body is, (H, W, 3) uint8, or (H, W, 1) if `grey`. One picture is a request.

    `at_least`: see `formats.images.decoded`.

    Raises:
        RequestError: 400, no picture or one that cannot be decoded. What its Content-Type says is checked by
            `responding.media_type`; JPEG and PNG are told apart by their bytes.
    """
    if not request.body:
        raise RequestError("The request is empty; its body must be one encoded picture", 400)
    try:
        return decoded(request.body, "the request's picture", grey=grey, at_least=at_least)
    except DataError as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
