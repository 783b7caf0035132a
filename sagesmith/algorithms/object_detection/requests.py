"""requests: a picture in, its detections out: shares of width and height, or boxes in pixels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.images.requests import picture_of
from sagesmith.algorithms.responding import media_type, negotiated

if TYPE_CHECKING:
    from sagesmith.algorithms.object_detection import ObjectDetection

ANNOTATION = "annotation"  # parameter of the Accept header: the answer is to look like an annotation


def respond(model: ObjectDetection, request: Request) -> Response:
    """
    Raises:
        RequestError: 415 for another content type, 406 for another Accept, 400 for what is no picture.
    """
    media_type(model, request)
    accept = negotiated(model, request)
    wanted = accept.parameters.get(ANNOTATION, "0")
    if wanted not in ("0", "1"):
        raise RequestError(f"Accept {request.accept!r}: {ANNOTATION} must be 0 or 1", 406)
    picture = picture_of(request)
    found = model.predict([picture])[0]
    answer = annotation(found, picture) if wanted == "1" else prediction(found)
    end = "\n" if accept.name == "application/jsonlines" else ""
    return Response((json.dumps(answer) + end).encode(), str(accept) if wanted == "1" else accept.name)


def prediction(found: np.ndarray) -> dict[str, Any]:
    """`{"prediction": [[class, score, xmin, ymin, xmax, ymax], …]}` of detections (k, 6)."""
    return {"prediction": [[float(value) for value in row] for row in found]}


def annotation(found: np.ndarray, picture: np.ndarray) -> dict[str, Any]:
    """Detections in the form of an annotation: whole pixels of the picture (H, W, 3), and a score for each."""
    height, width = picture.shape[:2]
    corners = np.rint(found[:, 2:] * np.array([width, height, width, height])).astype(int)
    annotations = [
        {
            "class_id": int(row[0]),
            "score": float(row[1]),
            "left": int(left),
            "top": int(top),
            "width": int(right - left),
            "height": int(bottom - top),
        }
        for row, (left, top, right, bottom) in zip(found, corners, strict=True)
    ]
    size = {"width": int(width), "height": int(height), "depth": int(picture.shape[2])}
    return {"image_size": [size], "annotations": annotations}
