"""vgg: VGG-16 as the trunk of SSD. Simonyan and Zisserman 2014 (configuration D); Liu et al., SSD, 2016, section 3.

The two fully connected layers are convolutions: fc6 of 3x3 with dilation 6 over pool5, whose stride is 1, and fc7 of
1x1. Layers bear the paper's names, conv1_1 to fc7, which is what patterns of frozen layers are matched with.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sagesmith.algorithms.backbones.resnet import initialize

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions between poolings
WIDTHS = (512, 1024)  # channels of conv4_3 and fc7


class VGG16(nn.Module):
    """The convolutions conv1_1 to conv5_3, fc6 and fc7."""

    widths = WIDTHS

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        inner = channels
        for stage, (outer, count) in enumerate(STAGES, 1):
            for number in range(1, count + 1):
                self.add_module(f"conv{stage}_{number}", nn.Conv2d(inner, outer, 3, padding=1))
                inner = outer
        self.fc6 = nn.Conv2d(inner, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        initialize(self)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, H, W) to the features of conv4_3, (B, 512, H/8, W/8), and fc7, (B, 1024, H/16, W/16).

        300x300 gives 38x38 and 19x19: poolings round up, as the third does in SSD; no pixel is lost at any size.
        """
        x, found = pictures, []
        for stage, (_, count) in enumerate(STAGES, 1):
            for number in range(1, count + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{number}")(x), inplace=True)
            found.append(x)
            x = F.max_pool2d(x, 2, 2, ceil_mode=True) if stage < len(STAGES) else F.max_pool2d(x, 3, 1, 1)
        x = F.relu(self.fc6(x), inplace=True)
        return found[3], F.relu(self.fc7(x), inplace=True)
