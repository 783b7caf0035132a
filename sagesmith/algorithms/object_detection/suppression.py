"""suppression: from the network's numbers to detections: scores, boxes, and the suppression of lesser doubles.

Source: Liu et al. (2016), section 3.1 (inference). The softmax runs where the network does; the rest, which branches
too much for a GPU, in compiled code, a thread to a picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sagesmith.algorithms.parallel import each

LEAST = 0.01  # score from which a box is looked at


def detections(
    logits: Tensor, offsets: Tensor, defaults: np.ndarray, nms_threshold: float, nms_topk: int, threads: int
) -> list[np.ndarray]:
    """The detections of each picture, (k, 6) float32, the best first: class, score, xmin, ymin, xmax, ymax.

    Coordinates are shares of width and height within [0, 1].

    Args:
        logits: (b, n, classes + 1), the background first.
        offsets: (b, n, 4).
        nms_threshold: overlap above which a box is dropped for a better one of its class.
        nms_topk: boxes of a class that are looked at, and rows of the answer at most.
    """
    from sagesmith.algorithms.object_detection.suppression_compiled import detected

    probabilities = torch.softmax(logits.float(), dim=-1).cpu().numpy()
    moved = np.ascontiguousarray(offsets.float().cpu().numpy())

    def of(picture: int) -> np.ndarray:
        found: np.ndarray = detected(
            probabilities[picture], moved[picture], defaults, LEAST, nms_threshold, nms_topk, nms_topk
        )
        return found

    return each(of, range(len(moved)), threads)
