"""heads: the three decoders, from a backbone's features (B, C, h, w) to logits of every class (B, classes, h, w).

Papers: Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015; Zhao et al., Pyramid Scene
Parsing Network, CVPR 2017; Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017.
The features have an eighth of the picture's size: the backbone's last two stages are dilated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BINS = (1, 2, 3, 6)  # parts of a side in the four levels of PSP's pyramid
RATES = (12, 24, 36)  # dilations of DeepLabV3 at stride 8
ATROUS = 256  # channels of a branch of DeepLabV3


class Norm(nn.BatchNorm2d):
    """Batch normalisation. One value per channel has no variance: there the running statistics are used."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class Dilated(nn.Conv2d):
    """A dilated 3x3 convolution, padded to keep the size.

    Where the dilation is not smaller than the map, the eight outer taps only ever see the padding: the ninth is then
    the whole convolution.
    """

    def __init__(self, inputs: int, outputs: int, rate: int) -> None:
        super().__init__(inputs, outputs, 3, padding=rate, dilation=rate, bias=False)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate >= max(x.shape[2:]):
            return functional.conv2d(x, self.weight[:, :, 1:2, 1:2])
        return super().forward(x)


def convolution(inputs: int, outputs: int, size: int = 1, rate: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, normalised, with ReLU."""
    if rate > 1:
        layer: nn.Conv2d = Dilated(inputs, outputs, rate)
    else:
        layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(layer, Norm(outputs), nn.ReLU(inplace=True))


class FCNHead(nn.Sequential):
    """A 3x3 convolution to a quarter of the channels, then a classifier of each position."""

    def __init__(self, inputs: int, classes: int) -> None:
        hidden = inputs // 4
        super().__init__(convolution(inputs, hidden, 3), nn.Dropout(0.1), nn.Conv2d(hidden, classes, 1))


class PSPHead(nn.Module):
    """Beside the features, their means over 1, 4, 9 and 36 parts of the picture: what the whole scene says."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        hidden = inputs // 4
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), convolution(inputs, inputs // len(BINS))) for bins in BINS
        )
        self.classifier = nn.Sequential(
            convolution(2 * inputs, hidden, 3), nn.Dropout(0.1), nn.Conv2d(hidden, classes, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        context = [resized(level(features), features.shape[2:]) for level in self.levels]
        found: Tensor = self.classifier(torch.cat([features, *context], dim=1))
        return found


class DeepLabHead(nn.Module):
    """Atrous spatial pyramid pooling: each position at five scales, from itself alone to the mean of the picture."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [convolution(inputs, ATROUS), *(convolution(inputs, ATROUS, 3, rate) for rate in RATES)]
        )
        self.picture = nn.Sequential(nn.AdaptiveAvgPool2d(1), convolution(inputs, ATROUS))
        self.project = nn.Sequential(convolution((len(RATES) + 2) * ATROUS, ATROUS), nn.Dropout(0.5))
        self.classifier = nn.Sequential(convolution(ATROUS, ATROUS, 3), nn.Dropout(0.1), nn.Conv2d(ATROUS, classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        picture: Tensor = self.picture(features)
        scales = [branch(features) for branch in self.branches]
        scales.append(picture.expand(-1, -1, *features.shape[2:]))
        found: Tensor = self.classifier(self.project(torch.cat(scales, dim=1)))
        return found


HEADS: dict[str, type[nn.Module]] = {"fcn": FCNHead, "psp": PSPHead, "deeplab": DeepLabHead}


def resized(maps: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) of another size (H, W), bilinear."""
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
