"""inference: a picture of any size through the network, and its logits as a mask or probabilities of the same size.

Which size the network sees: the picture's own, where its longer side lies within the scales of training (base_size/2
to 2 base_size), else the nearest of them. So memory is bounded by base_size, and a picture far from what was learnt is
brought near to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sagesmith.algorithms.semantic_segmentation.heads import resized

SCALES = (0.5, 2.0)  # of base_size: what the longer side is drawn from in training
STRIP = 16 << 20  # numbers that are held at once while logits are brought to a picture's size


def seen_size(height: int, width: int, base_size: int) -> tuple[int, int]:
    """The (height, width) in which the network sees a picture."""
    longer = max(height, width)
    wanted = min(max(longer, SCALES[0] * base_size), SCALES[1] * base_size)
    if wanted == longer:
        return height, width
    return max(1, round(height * wanted / longer)), max(1, round(width * wanted / longer))


def logits_of(network: nn.Module, images: Tensor, base_size: int) -> Tensor:
    """Logits (B, classes, h, w), an eighth of the size that the network sees, of pictures (B, H, W, 3) uint8."""
    size = seen_size(images.shape[1], images.shape[2], base_size)
    if size != tuple(images.shape[1:3]):
        maps = images.permute(0, 3, 1, 2).float()
        maps = functional.interpolate(maps, size=size, mode="bilinear", antialias=True)
        images = maps.permute(0, 2, 3, 1)
    found: Tensor = network(images)
    return found


def masks_of(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The likeliest class of every pixel (B, H, W) uint8, of logits (B, classes, h, w) brought to (H, W).

    Works on strips of rows: of a large picture the logits never exist as a whole.
    """
    height, width = size
    rows = max(1, STRIP // (logits.shape[0] * logits.shape[1] * width))
    strips = []
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        strip = resized(_rows(logits, height, top, bottom), (bottom - top, width))
        strips.append(strip.argmax(dim=1).to(torch.uint8))
    return torch.cat(strips, dim=1)


def _rows(logits: Tensor, height: int, top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of the maps brought to `height` rows, their width as it is."""
    inner = logits.shape[2]
    at = (torch.arange(top, bottom, device=logits.device, dtype=logits.dtype) + 0.5) * (inner / height) - 0.5
    at = at.clamp_(min=0)
    above = at.floor().long().clamp_(max=inner - 1)
    below = (above + 1).clamp_(max=inner - 1)
    return torch.lerp(logits[:, :, above], logits[:, :, below], (at - above)[:, None])


def probabilities_of(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The probability of every class at every pixel, (B, classes, H, W) float32."""
    return resized(logits, size).softmax(dim=1)
