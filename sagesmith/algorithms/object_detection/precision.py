"""precision: mean average precision of detections, as PASCAL VOC and as COCO count it.

Objects are (m, 5): class, xmin, ymin, xmax, ymax; detections (k, 6): class, score, xmin, ymin, xmax, ymax. One array a
picture; coordinates in any one unit.
Sources: Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective (2015), whose measure of 2010
and later is the area under the curve; Lin et al., Microsoft COCO (2014), through faster-coco-eval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

COCO_SIDE = 1000.0  # pixels that a share of 1 is taken for; COCO's classes of size lean on pixels


def average_precisions(
    objects: Sequence[np.ndarray], found: Sequence[np.ndarray], overlap_threshold: float = 0.5
) -> dict[int, float]:
    """The average precision of every class that has objects: the area under its curve of precision over recall.

    A detection is right if its overlap with the object of its class that it overlaps most is `overlap_threshold` or
    more, and no better detection has claimed that object. Precision is made to fall with recall before the area is
    taken.

    Raises:
        ValueError: not as many arrays of the one as of the other.
    """
    if len(objects) != len(found):
        raise ValueError(f"objects of {len(objects)} pictures, but detections of {len(found)}")
    totals: dict[int, int] = {}
    parts, before = [np.empty((0, 4))], 0
    for mine, theirs in zip(objects, found, strict=True):
        for number, count in zip(*np.unique(mine[:, 0].astype(int), return_counts=True), strict=True):
            totals[int(number)] = totals.get(int(number), 0) + int(count)
        parts.append(_claims(mine, theirs, overlap_threshold, before))
        before += len(mine)
    claims = np.concatenate(parts)
    return {number: _area(claims[claims[:, 0] == number], totals[number]) for number in sorted(totals)}


def mean_average_precision(
    objects: Sequence[np.ndarray], found: Sequence[np.ndarray], overlap_threshold: float = 0.5
) -> float:
    """The mean over classes that have objects; 0 where there are no objects at all."""
    values = list(average_precisions(objects, found, overlap_threshold).values())
    return float(np.mean(values)) if values else 0.0


def pairwise_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of corners (m, 4) and (n, 4), (m, n)."""
    a, b = first[:, None, :].astype(np.float64), second[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(sides, 0, None).prod(axis=-1)
    both = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1)
    return np.asarray(common / np.maximum(both - common, 1e-12))


def _claims(objects: np.ndarray, found: np.ndarray, threshold: float, before: int) -> np.ndarray:
    """For each detection: class, score, whether it overlaps an object enough, and that object's number."""
    claims = np.zeros((len(found), 4))
    claims[:, :2] = found[:, :2]
    if not (len(objects) and len(found)):
        return claims
    shared = pairwise_overlaps(found[:, 2:], objects[:, 1:])
    shared[found[:, :1].astype(int) != objects[:, 0].astype(int)[None]] = -1.0
    best = shared.argmax(axis=1)
    claims[:, 2] = shared[np.arange(len(found)), best] >= threshold
    claims[:, 3] = before + best
    return claims


def _area(claims: np.ndarray, objects: int) -> float:
    claims = claims[np.argsort(-claims[:, 1], kind="stable")]
    right = np.zeros(len(claims), bool)
    near = np.flatnonzero(claims[:, 2])
    right[near[np.unique(claims[near, 3], return_index=True)[1]]] = True  # the first to claim an object
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(claims) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[right].sum() / objects)  # recall rises by 1/objects at each hit


def coco_precision(objects: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> dict[str, float]:
    """COCO's measures by their names, such as `AP` (mean over overlaps .50 to .95), `AP50`, `AP75`.

    Coordinates are shares of the picture, or pixels for the measures of small, medium and large objects to mean what
    they say. At most 100 detections of a picture count, as COCO has it.

    Raises:
        ModuleNotFoundError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "COCO's measures need faster-coco-eval, which is not installed: pip install 'sagesmith[vision]'",
            name=error.name,
        ) from error
    scale = COCO_SIDE if _are_shares(objects) else 1.0
    rows = _coco_rows(found, scale)
    if not rows or not any(map(len, objects)):
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    truth = COCO(_coco_truth(objects, scale), print_function=_quiet)
    judged = COCOeval_faster(truth, truth.loadRes(rows), "bbox", print_function=_quiet)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    return {name: float(value) for name, value in zip(names, judged.stats, strict=False)}


def _quiet(*said: object) -> None:
    """In place of the progress that the library would print."""


def _are_shares(objects: Sequence[np.ndarray]) -> bool:
    return all(float(mine[:, 1:].max(initial=0.0)) <= 1.0 for mine in objects)


def _coco_truth(objects: Sequence[np.ndarray], scale: float) -> dict[str, Any]:
    classes = sorted({int(row[0]) for mine in objects for row in mine})
    annotations = [
        {"id": number, "image_id": picture, "category_id": int(row[0]), "iscrowd": 0} | _coco_box(row[1:] * scale)
        for number, (picture, row) in enumerate(
            ((picture, row) for picture, mine in enumerate(objects) for row in mine), 1
        )
    ]
    return {
        "images": [{"id": picture} for picture in range(len(objects))],
        "categories": [{"id": number, "name": str(number)} for number in classes],
        "annotations": annotations,
    }


def _coco_box(corners: np.ndarray) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in corners)
    return {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}


def _coco_rows(found: Sequence[np.ndarray], scale: float) -> list[dict[str, Any]]:
    return [
        {"image_id": picture, "category_id": int(row[0]), "score": float(row[1])} | _coco_box(row[2:] * scale)
        for picture, theirs in enumerate(found)
        for row in theirs
    ]
