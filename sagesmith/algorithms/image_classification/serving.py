"""serving: a picture in, the probability of each class out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.images.requests import picture_of
from sagesmith.algorithms.responding import media_type, negotiated
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.image_classification import ImageClassification

JSONLINES = "application/jsonlines"


def respond(model: ImageClassification, request: Request) -> Response:
    """`[0.1, 0.9]`, or, in JSON Lines, `{"prediction": [0.1, 0.9]}`.

    Raises:
        RequestError: 415 for another content type, 406 for another Accept, 400 for what is no picture.
    """
    media_type(model, request)
    accept = negotiated(model, request).name
    channels, height, width = model.shape
    image = picture_of(request, grey=channels == 1, at_least=max(height, width))
    try:
        probabilities = model.infer([image])["prediction"][0].tolist()
    except DataError as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    if accept == JSONLINES:
        return Response(json.dumps({"prediction": probabilities}).encode() + b"\n", accept)
    return Response(json.dumps(probabilities).encode(), accept)
