"""matching: which default boxes answer for which objects, and what they should say. For a whole batch at once.

Source: Liu et al. (2016), section 2.2, matching strategy. Boxes are shares of the picture; corners are xmin, ymin,
xmax, ymax; centres are centre x, centre y, width, height.
"""

from __future__ import annotations

import torch
from torch import Tensor

MATCHED = 0.5  # overlap from which a default box answers for an object that is not its best
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # the authors' scale of the four offsets


def corners(boxes: Tensor) -> Tensor:
    """Corners of boxes (…, 4) given by centre and size."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (Jaccard) of every pair: corners (…, m, 4) and (n, 4) give (…, m, n)."""
    a, b = first[..., :, None, :], second[None, :, :]
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    common = width.clamp_(min=0).mul_(height.clamp_(min=0))
    return common / (area(a) + area(b) - common).clamp_(min=1e-12)


def area(boxes: Tensor) -> Tensor:
    """Areas of boxes (…, 4) given by corners."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def match(defaults: Tensor, boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """What each default box should say.

    Every object has its best default box, and all whose overlap with it exceeds 0.5 and with no other object is
    larger. Objects that want the same one get it by overlap; the others take their next best.

    Args:
        defaults: (n, 4) centres.
        boxes: (b, m, 4) corners of the objects.
        classes: (b, m), from 0; negative: no object, only padding.

    Returns:
        (b, n) the class plus 1 (0: background), and (b, n) the number of the object.
    """
    present = classes >= 0
    if boxes.shape[1] == 0:
        nothing = torch.zeros(len(boxes), len(defaults), dtype=torch.long, device=boxes.device)
        return nothing, nothing
    shared = overlaps(boxes, corners(defaults)).masked_fill_(~present[..., None], -1.0)  # (b, m, n)
    best, owner = shared.max(dim=1)  # (b, n)
    forced = _forced(shared, present)
    owner = torch.where(forced >= 0, forced, owner)
    matched = (best > MATCHED) | (forced >= 0)
    return torch.where(matched, classes.long().gather(1, owner) + 1, 0), owner


def _forced(shared: Tensor, present: Tensor) -> Tensor:
    """(b, n): the object whose best default box this is, or -1. Takes rounds, as objects may want the same box."""
    objects, defaults = shared.shape[1:]
    numbers = torch.arange(objects, device=shared.device).expand(present.shape)
    forced = torch.full((len(shared), defaults), -1, device=shared.device)
    waiting = present
    for _ in range(objects):
        value, at = shared.max(dim=2)  # (b, m): the best box that is free
        waiting = waiting & (value > 0)
        bids = torch.zeros(forced.shape, device=shared.device)
        bids.scatter_reduce_(1, at, value.where(waiting, torch.zeros_like(value)), "amax")
        wins = waiting & (value == bids.gather(1, at))
        forced.scatter_reduce_(1, at, numbers.where(wins, torch.full_like(numbers, -1)), "amax")
        waiting = waiting & ~(forced.gather(1, at) == numbers)
        if not bool(waiting.any()):
            break
        shared = shared.masked_fill(forced[:, None] >= 0, -1.0)
    return forced


def encoded(boxes: Tensor, defaults: Tensor) -> Tensor:
    """Offsets (…, n, 4) that turn default boxes (n, 4), centres, into boxes (…, n, 4), corners."""
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    moved = (center - defaults[:, :2]) / defaults[:, 2:]
    return torch.cat([moved, torch.log(size / defaults[:, 2:])], dim=-1) / boxes.new_tensor(VARIANCES)


def decoded(offsets: Tensor, defaults: Tensor) -> Tensor:
    """Boxes (…, n, 4), corners, from offsets: what `encoded` turned into them."""
    scaled = offsets * offsets.new_tensor(VARIANCES)
    center = defaults[:, :2] + scaled[..., :2] * defaults[:, 2:]
    return corners(torch.cat([center, defaults[:, 2:] * torch.exp(scaled[..., 2:])], dim=-1))
