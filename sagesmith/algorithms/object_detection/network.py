"""network: the single shot multibox detector on VGG-16 or ResNet-50.

Source: Liu et al., SSD: Single Shot MultiBox Detector (2016), sections 2.1 and 3; their VGG-16 form to the letter. On
ResNet-50 the maps of its last three stages take the place of conv4_3, fc7 and conv8_2, so that both have the same
default boxes; its further layers are batch-normalised, as it is itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sagesmith.algorithms.backbones.pixels import standardized
from sagesmith.algorithms.backbones.resnet import ResNet
from sagesmith.algorithms.backbones.vgg import VGG16
from sagesmith.algorithms.object_detection.default_boxes import (
    boxes_per_place,
    default_boxes,
    map_sizes,
    next_size,
    shrinks,
)

FURTHER = ((256, 512), (128, 256))  # channels of conv8_1 and conv8_2; of all further ones
NORM = 20.0  # what the features of conv4_3 are scaled to at first (Liu et al., ParseNet, 2015)


class Trunk(nn.Module):
    """The first maps of the detector, from a base network.

    Attributes:
        widths: channels of each map.
        normalised: whether convolutions behind it are batch-normalised.
    """

    widths: Sequence[int]
    normalised: bool

    def forward(self, pictures: Tensor) -> Sequence[Tensor]:
        """(b, 3, side, side) standardized to maps, at strides 8, 16 and so on."""
        raise NotImplementedError

    def named_layers(self) -> dict[str, str]:
        """The base network's layers by the names that `freeze_layer_pattern` is matched with: their modules."""
        raise NotImplementedError


class VGGTrunk(Trunk):
    """conv4_3, whose features are brought to one length at each place, and fc7."""

    normalised = False

    def __init__(self) -> None:
        super().__init__()
        self.base = VGG16()
        self.widths = self.base.widths
        for module in self.base.children():  # by their inputs: without normalisation, features would fade on the way
            nn.init.kaiming_normal_(module.get_parameter("weight"), mode="fan_in", nonlinearity="relu")
        self.norm = nn.Parameter(torch.full((self.widths[0],), NORM))

    def forward(self, pictures: Tensor) -> Sequence[Tensor]:
        early, late = self.base(pictures)
        return functional.normalize(early, dim=1) * self.norm[:, None, None], late

    def named_layers(self) -> dict[str, str]:
        return {name: f"base.{name}" for name, _ in self.base.named_children()}


class ResNetTrunk(Trunk):
    """The last three stages, at strides 8, 16 and 32."""

    normalised = True

    def __init__(self) -> None:
        super().__init__()
        self.base = ResNet(50)
        self.widths = self.base.widths[1:]
        for name, module in self.base.named_modules():
            if name.endswith(".bn3"):  # blocks begin as their shortcuts: what the heads read does not grow with depth
                nn.init.zeros_(module.get_parameter("weight"))

    def forward(self, pictures: Tensor) -> Sequence[Tensor]:
        return self.base.features(pictures)[1:]

    def named_layers(self) -> dict[str, str]:
        """`conv0`, `bn0`, then `stage1_unit1_conv1`, `_bn1`, …, `_sc`, `_sc_bn`, numbered as in MXNet's ResNet."""
        found = {}
        for name, module in self.base.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                found[_stage_name(name)] = f"base.{name}"
        return found


def _stage_name(name: str) -> str:
    """`layer1.0.conv1` → `stage1_unit1_conv1`; `layer1.0.downsample.1` → `stage1_unit1_sc_bn`; `bn1` → `bn0`."""
    found = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", name)
    if not found:
        return re.sub(r"\d+$", "0", name)
    part = {"downsample.0": "sc", "downsample.1": "sc_bn"}.get(found[3], found[3])
    return f"stage{found[1]}_unit{int(found[2]) + 1}_{part}"


TRUNKS: dict[str, type[Trunk]] = {"vgg-16": VGGTrunk, "resnet-50": ResNetTrunk}


class Detector(nn.Module):
    """SSD: a trunk, further maps down to a single place, and at each place of every map classes and offsets.

    Args:
        classes: of objects; the background is one more.
        image_shape: side of the pictures.
    """

    defaults: Tensor  # (n, 4), centres

    def __init__(self, trunk: Trunk, classes: int, image_shape: int) -> None:
        super().__init__()
        self.trunk, self.classes = trunk, classes
        sizes = map_sizes(image_shape)
        widths = list(trunk.widths)
        self.further = nn.ModuleList()
        for number, size in enumerate(sizes[len(widths) - 1 : -1], len(widths)):
            narrow, wide = FURTHER[0] if number == 2 else FURTHER[1]
            self.further.append(_further(widths[-1], narrow, wide, size, trunk.normalised))
            widths.append(wide)
        kinds = boxes_per_place(len(sizes))
        self.heads = nn.ModuleList(
            nn.Conv2d(width, kind * (classes + 1 + 4), 3, padding=1) for width, kind in zip(widths, kinds, strict=True)
        )
        for module in (*self.further.modules(), *self.heads):
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.register_buffer("defaults", torch.from_numpy(default_boxes(image_shape)), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(b, side, side, 3) uint8 to the logits (b, n, classes + 1), background first, and offsets (b, n, 4)."""
        maps = list(self.trunk(standardized(pictures)))
        for block in self.further:
            maps.append(block(maps[-1]))
        said = [self._spread(head(features)) for head, features in zip(self.heads, maps, strict=True)]
        together = torch.cat(said, dim=1)
        return together[..., : self.classes + 1], together[..., self.classes + 1 :]

    def _spread(self, said: Tensor) -> Tensor:
        """(b, kinds * values, h, w) to (b, h * w * kinds, values): the order of the default boxes."""
        return said.permute(0, 2, 3, 1).reshape(len(said), -1, self.classes + 1 + 4)


def _further(inner: int, narrow: int, wide: int, size: int, normalised: bool) -> nn.Sequential:
    """conv8_1 and conv8_2, or those behind them: 1x1, then 3x3 without padding or with stride 2, for a map of `size`.

    A single place is not normalised: a batch of one picture would have but one value.
    """
    stride, padding = (1, 0) if shrinks(size) else (2, 1)
    steps: list[nn.Module] = []
    for convolution, width, place in (
        (nn.Conv2d(inner, narrow, 1), narrow, size),
        (nn.Conv2d(narrow, wide, 3, stride, padding), wide, next_size(size)),
    ):
        steps.append(convolution)
        if normalised and place > 1:
            steps.append(nn.BatchNorm2d(width))
        steps.append(nn.ReLU(inplace=True))
    return nn.Sequential(*steps)


def detector(base_network: str, classes: int, image_shape: int) -> Detector:
    """The network that the hyperparameters describe, with random weights."""
    return Detector(TRUNKS[base_network](), classes, image_shape)


class Frozen:
    """Layers of the base network that are not learnt.

    A layer is frozen if the pattern matches the beginning of one of its parameters' names: MXNet's, such as
    `conv1_1_weight` or `bn0_gamma`. Frozen batch normalisation uses the statistics that it has.

    Raises:
        ValueError: nothing matches, naming some of the names.
    """

    def __init__(self, network: Detector, pattern: str) -> None:
        layers = network.trunk.named_layers()
        self.names = [name for name in layers if pattern and _matches(pattern, name)]
        if pattern and not self.names:
            raise ValueError(
                f"freeze_layer_pattern {pattern!r} matches no layer of the base network; its layers are "
                f"{', '.join(layers)}"
            )
        self._modules = [network.trunk.get_submodule(layers[name]) for name in self.names]
        for module in self._modules:
            module.requires_grad_(False)

    def train(self, network: Detector) -> None:
        """Sets the network to training, but for what is frozen."""
        network.train()
        for module in self._modules:
            module.eval()


def _matches(pattern: str, name: str) -> bool:
    kinds = ("gamma", "beta") if "bn" in name else ("weight", "bias")
    return any(re.match(pattern, f"{name}{ending}") for ending in ("", *(f"_{kind}" for kind in kinds)))
