"""requests: one picture in; a mask as PNG out, or the probabilities of all classes as one RecordIO-protobuf record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.images.requests import picture_of
from sagesmith.algorithms.responding import media_type, negotiated
from sagesmith.formats.frames import LONGEST_FRAME, frame
from sagesmith.formats.images import png
from sagesmith.formats.protobuf import Record, Value, encode

if TYPE_CHECKING:
    from sagesmith.algorithms.semantic_segmentation import SemanticSegmentation

MOST_BYTES = LONGEST_FRAME - 128  # of a record's numbers, beside its few other bytes


def respond(model: SemanticSegmentation, request: Request) -> Response:
    """The answer to one request.

    Raises:
        RequestError: 415 or 406 for a content type that is not taken or given; 400 for what is no picture, and for
            one whose probabilities would not fit into a record.
    """
    media_type(model, request)
    accept = negotiated(model, request).name
    image = picture_of(request)
    if accept == "image/png":
        return Response(png(model.mask_of(image)), accept)
    classes, (height, width) = model.settings["num_classes"], image.shape[:2]
    if 4 * classes * height * width > MOST_BYTES:
        raise RequestError(
            f"Unable to evaluate payload provided: the probabilities of {classes} classes for {width} x {height} "
            f"pixels take more than {MOST_BYTES >> 20} MB; send a smaller picture, or ask for image/png",
            400,
        )
    return Response(frame(encode(record(model.probabilities_of(image)))), accept)


def record(probabilities: np.ndarray) -> Record:
    """The record of probabilities (classes, H, W): `target`, flattened, and `shape`, with a leading 1."""
    shape = np.array([1, *probabilities.shape], np.int32)
    return Record({"target": Value("float32", probabilities.ravel()), "shape": Value("int32", shape)})
