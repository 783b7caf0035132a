"""Heads, the loss, sizes at inference: against plain torch and by their properties."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sagesmith.algorithms.semantic_segmentation import inference
from sagesmith.algorithms.semantic_segmentation.heads import HEADS, DeepLabHead, Dilated, PSPHead
from sagesmith.algorithms.semantic_segmentation.network import Segmenter


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_logits_of_every_class_at_every_position(name: str) -> None:
    head = HEADS[name](32, 5)
    assert head(torch.randn(2, 32, 6, 9)).shape == (2, 5, 6, 9)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_from_a_single_picture(name: str) -> None:
    """PSP and DeepLab pool a picture to one value per channel, which has no variance."""
    head = HEADS[name](32, 5).train()
    found = head(torch.randn(1, 32, 4, 4))
    found.sum().backward()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(("rate", "size"), [(2, (6, 7)), (6, (6, 7)), (7, (6, 7)), (12, (5, 3))])
def test_a_dilated_convolution_is_torchs_at_every_size(rate: int, size: tuple[int, int]) -> None:
    layer = Dilated(4, 3, rate)
    maps = torch.randn(2, 4, *size)
    expected = functional.conv2d(maps, layer.weight, padding=rate, dilation=rate)
    assert torch.allclose(layer(maps), expected, atol=1e-5)


def test_the_pyramid_sees_the_whole_picture() -> None:
    """A change in one corner moves the logits of the opposite one, which no 3x3 convolution could."""
    head = PSPHead(16, 3).eval()
    maps = torch.randn(1, 16, 12, 12)
    other = maps.clone()
    other[..., 0, 0] += 100
    assert not torch.allclose(head(maps)[..., 11, 11], head(other)[..., 11, 11], atol=1e-4)


def test_deeplab_reads_at_its_rates() -> None:
    """Without the picture's mean, a position depends on those 12, 24 and 36 away (and their neighbours), no others."""
    head = DeepLabHead(8, 2).eval()
    nn.init.zeros_(head.picture[1][0].weight)
    maps = torch.randn(1, 8, 1, 80, requires_grad=True)
    head(maps)[0, 0, 0, 40].backward()
    assert maps.grad is not None
    reached = {abs(int(at) - 40) for at in maps.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()}
    assert reached == {0, 1, 11, 12, 13, 23, 24, 25, 35, 36, 37}


@pytest.mark.parametrize(("backbone", "weights"), [("resnet-50", 35_322_218), ("resnet-101", 54_314_346)])
def test_the_whole_network_has_a_logit_for_every_eighth_pixel(backbone: str, weights: int) -> None:
    """With as many weights as torchvision publishes for its own."""
    network = Segmenter.of(backbone, "fcn", 21).eval()
    assert sum(weight.numel() for weight in network.parameters()) == weights
    with torch.inference_mode():
        assert network(torch.zeros(1, 40, 56, 3, dtype=torch.uint8)).shape == (1, 21, 5, 7)


# -- sizes -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("own", "base", "seen"),
    [
        ((480, 360), 520, (480, 360)),
        ((260, 100), 520, (260, 100)),
        ((1040, 1040), 520, (1040, 1040)),
        ((2080, 1040), 520, (1040, 520)),
        ((130, 65), 520, (260, 130)),
        ((4000, 1), 520, (1040, 1)),
    ],
)
def test_the_network_sees_a_picture_at_the_scales_of_training(
    own: tuple[int, int], base: int, seen: tuple[int, int]
) -> None:
    assert inference.seen_size(*own, base) == seen


class Echo(nn.Module):
    """Logits that are the picture itself, an eighth of its size."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(pictures.permute(0, 3, 1, 2).float(), 8, ceil_mode=True)


@pytest.mark.parametrize("strip", [1, 500, 1 << 24])
@pytest.mark.parametrize("size", [(40, 64), (37, 51), (3, 200), (8, 8)])
def test_masks_in_strips_are_those_of_the_whole(
    strip: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "STRIP", strip)
    logits = torch.randn(2, 5, -(-size[0] // 8), -(-size[1] // 8))
    whole = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    found = inference.masks_of(logits, size)
    assert (found.shape, found.dtype) == ((2, *size), torch.uint8)
    differ = found != whole.argmax(dim=1)
    two = whole.topk(2, dim=1).values
    assert not (differ & (two[:, 0] - two[:, 1] > 1e-5)).any()  # only where two classes are equal but for rounding


def test_probabilities_are_the_softmax_at_the_pictures_own_size() -> None:
    logits = torch.randn(1, 4, 3, 5)
    found = inference.probabilities_of(logits, (20, 33))
    assert found.shape == (1, 4, 20, 33)
    assert torch.allclose(found.sum(dim=1), torch.ones(1, 20, 33), atol=1e-6)


def test_a_large_picture_is_scaled_down_for_the_network() -> None:
    picture = torch.zeros(1, 64, 256, 3, dtype=torch.uint8)
    picture[:, :, 128:] = 200
    logits = inference.logits_of(Echo(), picture, base_size=32)
    assert logits.shape == (1, 3, 2, 8)
    assert logits[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 0, 200, 200, 200, 200], abs=20)
