"""losses: SSD's loss: smooth L1 on the offsets of matched boxes, softmax on classes with hard negatives.

Source: Liu et al. (2016), section 2.2, training objective and hard negative mining.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sagesmith.algorithms.object_detection.matching import encoded

NEGATIVES = 3  # background boxes that count for each matched one: those that are hardest to tell


@dataclass(frozen=True)
class Loss:
    """The loss of a batch and what it is made of, as tensors without dimensions.

    Attributes:
        value: (classes + offsets) / matched, what is minimised.
        classes, offsets: sums of cross-entropy and of smooth L1.
        matched: default boxes that answer for an object.
        counted: these and the mined negatives.
    """

    value: Tensor
    classes: Tensor
    offsets: Tensor
    matched: Tensor
    counted: Tensor


def loss_of(logits: Tensor, offsets: Tensor, wanted: Tensor, owner: Tensor, boxes: Tensor, defaults: Tensor) -> Loss:
    """The loss of (b, n, classes + 1) logits and (b, n, 4) offsets; `wanted` and `owner` are what `match` gave.

    A picture without objects has no matched box and therefore no negatives: it counts for nothing.
    """
    entropy = functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none").view_as(wanted)
    positive = wanted > 0
    counts = positive.sum(dim=1)
    kept = positive | hardest(entropy.detach(), positive, NEGATIVES * counts)
    classes = (entropy * kept).sum()
    if boxes.shape[1]:
        own = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
        target = encoded(own, defaults)
        apart = functional.smooth_l1_loss(offsets.float(), target, reduction="none").sum(dim=-1)
        moved = torch.where(positive, apart, 0.0).sum()
    else:
        moved = (offsets * 0.0).sum()
    matched = counts.sum()
    return Loss((classes + moved) / matched.clamp(min=1), classes, moved, matched, kept.sum())


def hardest(entropy: Tensor, positive: Tensor, counts: Tensor) -> Tensor:
    """(b, n): in each row the `counts` (b,) boxes of the background with the largest loss."""
    values = entropy.masked_fill(positive, -1.0)
    ordered = values.sort(dim=1, descending=True).values
    last = (counts - 1).clamp(min=0, max=values.shape[1] - 1)
    limit = ordered.gather(1, last[:, None])
    return (values >= limit) & ~positive & (counts > 0)[:, None]
