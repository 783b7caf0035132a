"""network: a dilated residual network, a decoder, and the auxiliary decoder that helps to train them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sagesmith.algorithms.backbones.pixels import standardized
from sagesmith.algorithms.backbones.resnet import ResNet, initialize
from sagesmith.algorithms.images.scenes import IGNORED
from sagesmith.algorithms.semantic_segmentation.heads import HEADS, FCNHead, resized

AUXILIARY = 0.5  # weight of the auxiliary loss, as SageMaker's image has it
STRIDE = 8  # pixels of the picture per pixel of the features


class Segmenter(nn.Module):
    """Logits of every class at every eighth pixel of pictures.

    Args:
        backbone: with `features`, whose last two have an eighth of the picture's size, and their `widths`.
        algorithm: of HEADS.
    """

    def __init__(self, backbone: nn.Module, algorithm: str, classes: int) -> None:
        super().__init__()
        widths: Any = backbone.widths
        self.backbone = backbone
        self.head = HEADS[algorithm](widths[-1], classes)
        self.auxiliary = FCNHead(widths[-2], classes)
        for part in (self.head, self.auxiliary):
            if algorithm != "deeplab":  # whose wide heads learn sooner from torch's smaller weights (record 0036)
                initialize(part)
            *_, last = (module for module in part.modules() if isinstance(module, nn.Conv2d))
            nn.init.normal_(last.weight, std=0.01)  # all classes are as likely at first

    @classmethod
    def of(cls, backbone: str, algorithm: str, classes: int) -> Segmenter:
        """The network by SageMaker's names: `resnet-50`, `fcn`. Residual blocks begin as their shortcuts."""
        residual = ResNet(int(backbone.removeprefix("resnet-")), output_stride=STRIDE)
        for name, module in residual.named_modules():
            if name.endswith(".bn3") and isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.weight)  # Goyal et al., Accurate, Large Minibatch SGD, 2017, section 5.1
        return cls(residual, algorithm, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (B, classes, H/8, W/8) of pictures (B, H, W, 3), bytes or the same numbers as float32."""
        found: Tensor = self.head(self._features(pictures)[-1])
        return found

    def loss(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of labels (B, H, W) uint8, a mean over those that are not 255, both decoders' together."""
        features = self._features(pictures)
        main = cross_entropy(self.head(features[-1]), labels)
        return main + AUXILIARY * cross_entropy(self.auxiliary(features[-2]), labels)

    def _features(self, pictures: Tensor) -> tuple[Tensor, ...]:
        backbone: Any = self.backbone
        found: tuple[Tensor, ...] = backbone.features(standardized(pictures))
        return found


def laid_out(network: Any) -> Segmenter:
    """The network with its weights channel by channel for each pixel, as pictures are: that is quickest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the labelled pixels, of logits brought to the labels' size; 0 where no pixel is labelled."""
    labels = labels.long()
    total = functional.cross_entropy(resized(logits, labels.shape[1:]), labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)
