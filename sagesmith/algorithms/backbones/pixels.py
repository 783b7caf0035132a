"""pixels: pictures as bytes to what a network reads, on the device, as its first step."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# Mean and deviation of ImageNet's channels, red, green and blue, of 1: what published weights were trained with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def standardized(pictures: Tensor) -> Tensor:
    """(B, H, W, C) uint8, RGB or grey, to (B, C, H, W) float32 of about mean 0 and deviation 1.

    The result is laid out channel by channel for each pixel (torch.channels_last), as the bytes are.
    """
    mean, deviation = _constants(pictures.shape[3], pictures.device)
    return (pictures - mean).div_(deviation).permute(0, 3, 1, 2)


@functools.cache  # making them anew would hold a GPU up at every step
@torch.inference_mode(False)
def _constants(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of the range 0 to 255. Grey pictures have the mean of the three colours'."""
    constants = torch.tensor((MEAN, DEVIATION), device=device) * 255
    if channels != 3:
        constants = constants.mean(1, keepdim=True).expand(2, channels)
    return constants[0], constants[1]
