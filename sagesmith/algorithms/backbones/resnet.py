"""resnet: residual networks. He et al., Deep Residual Learning for Image Recognition, 2015.

Three forms, which differ before and around the same blocks:

    large      7x7 stem and max pooling, four stages: sections 3.4 and 4.1, table 1; a bottleneck's stride is in its 3x3
               convolution ("v1b", as torchvision's and GluonCV's published weights have it)
    large on a small stem    the same four stages after a 3x3 stem without pooling, for pictures of up to 32 pixels
    small      6n+2 layers, three stages of 16, 32 and 64 filters, for such pictures: section 4.2, but with shortcuts
               that have weights where the width changes (option B), as MXNet's network has them

Parameters are named like torchvision's, so that its weight files fit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagesmith.algorithms.backbones.depths import BOTTLENECK_FROM, LARGE, SMALL
from sagesmith.algorithms.backbones.rectified import rectified


class ResNet(nn.Module):
    """A residual network of `depth` layers.

    Args:
        depth: of LARGE, or, with `small`, of SMALL too.
        small: the form for pictures of up to 32 pixels.
        classes: units of the last layer; None: there is none, only `features`.
        channels: of the pictures.
        output_stride: pixels of the picture per pixel of the last stage, 32, 16 or 8 (large form). Below 32 the last
            stages have dilated convolutions in place of strides (Chen et al., DeepLab, 2017).

    `widths` are the channels of each stage's features.

    Raises:
        ValueError: a depth or stride that is not among these.
    """

    def __init__(
        self,
        depth: int,
        *,
        small: bool = False,
        classes: int | None = None,
        channels: int = 3,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if depth not in LARGE and not (small and depth in SMALL):
            allowed = sorted([*LARGE, *SMALL] if small else LARGE)
            raise ValueError(f"a residual network of {depth} layers: there are those of {allowed}")
        if output_stride not in (32, 16, 8) or (small and output_stride != 32):
            raise ValueError(f"output stride {output_stride}: it must be 32, 16 or 8, and 32 for small pictures")
        self.pooled = not small
        first = 16 if depth in SMALL else 64
        self.conv1 = (
            nn.Conv2d(channels, first, 3, 1, 1, bias=False) if small else nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(first)
        widths: tuple[int, ...]
        if depth in SMALL:
            stages, widths = _small_stages(depth), (16, 32, 64)
        else:
            stages, widths = _large_stages(depth, output_stride)
        self.widths = widths
        for number, stage in enumerate(stages, 1):
            self.add_module(f"layer{number}", stage)
        self.stages = len(stages)
        self.fc = None if classes is None else nn.Linear(self.widths[-1], classes)
        initialize(self)

    def features(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Each stage's output (c2, c3, c4, c5 of the large form) for (B, channels, H, W)."""
        x = rectified(self.bn1, self.conv1(pictures))
        if self.pooled:
            x = F.max_pool2d(x, 3, 2, 1)
        found = []
        for number in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
            found.append(x)
        return tuple(found)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, classes): the logits."""
        assert self.fc is not None, "a network without a last layer has features only"
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(self.features(pictures)[-1], 1).flatten(1))
        return logits


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut (figure 5, left)."""

    def __init__(self, inner: int, outer: int, stride: int, dilation: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = _conv3(inner, outer, stride, dilation)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = _conv3(outer, outer, 1, dilation)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(rectified(self.bn1, self.conv1(x)))
        return rectified(self.bn2, y, x if self.downsample is None else self.downsample(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, beside a shortcut (figure 5, right)."""

    def __init__(self, inner: int, outer: int, stride: int, dilation: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        narrow = outer // 4
        self.conv1 = nn.Conv2d(inner, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = _conv3(narrow, narrow, stride, dilation)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = rectified(self.bn1, self.conv1(x))
        y = self.conv3(rectified(self.bn2, self.conv2(y)))
        return rectified(self.bn3, y, x if self.downsample is None else self.downsample(x))


def _small_stages(depth: int) -> list[nn.Sequential]:
    stages, inner = [], 16
    for outer in (16, 32, 64):
        stride = 1 if outer == inner else 2
        first = Basic(inner, outer, stride, 1, None if outer == inner else _shortcut(inner, outer, stride))
        rest = [Basic(outer, outer, 1, 1, None) for _ in range((depth - 2) // 6 - 1)]
        stages.append(nn.Sequential(first, *rest))
        inner = outer
    return stages


def _large_stages(depth: int, output_stride: int) -> tuple[list[nn.Sequential], tuple[int, ...]]:
    block: type[Basic] | type[Bottleneck] = Bottleneck if depth >= BOTTLENECK_FROM else Basic
    widths = [width * (4 if block is Bottleneck else 1) for width in (64, 128, 256, 512)]
    stages, inner, reached, dilation = [], 64, 4, 1
    for number, (count, outer) in enumerate(zip(LARGE[depth], widths, strict=True)):
        stride, before = 1 if number == 0 else 2, dilation
        if stride == 2 and reached == output_stride:
            stride, dilation = 1, dilation * 2
        reached *= stride
        plain = stride == 1 and inner == outer
        shortcut = None if plain else _shortcut(inner, outer, stride)
        rest = [block(outer, outer, 1, dilation, None) for _ in range(count - 1)]
        stages.append(nn.Sequential(block(inner, outer, stride, before, shortcut), *rest))
        inner = outer
    return stages, tuple(widths)


def _shortcut(inner: int, outer: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))


def _conv3(inner: int, outer: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, stride, dilation, dilation, bias=False)


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """He et al., Delving Deep into Rectifiers, 2015: weights of variance 2 / fan out; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
