"""rectified: the same numbers and gradients as torch's normalisation, sum and ReLU, wherever compiled code serves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sagesmith.algorithms.backbones import rectified as module
from sagesmith.algorithms.backbones.rectified import rectified


def pictures(channels: int, side: int, mean: float = 0.0) -> Tensor:
    return (torch.randn(4, channels, side, side) + mean).to(memory_format=torch.channels_last)


def both(x: Tensor, added: Tensor | None) -> list[dict[str, Any]]:
    """What rectified and torch's layers leave of the same batch, in double precision what torch does."""
    gradient = torch.randn(x.shape)
    first = nn.BatchNorm2d(x.shape[1])
    with torch.no_grad():
        first.weight.uniform_(-1.5, 1.5)
        first.bias.normal_()
        first.running_mean.normal_()  # type: ignore[union-attr, operator]
    second = nn.BatchNorm2d(x.shape[1]).double()
    second.load_state_dict(first.state_dict())
    found: list[dict[str, Any]] = []
    for norm, kind in ((first, torch.float32), (second, torch.float64)):
        given, other = x.detach().to(kind).requires_grad_(), None
        other = None if added is None else added.detach().to(kind).requires_grad_()
        if norm is first:
            y = rectified(norm, given, other)
            assert type(y.grad_fn).__name__ == "_RectifiedBackward"
        else:
            y = functional.relu(norm(given) + (0 if other is None else other))
        y.backward(gradient.to(kind))  # type: ignore[no-untyped-call]
        parts = {"y": y, "x": given.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
        parts |= {"mean": norm.running_mean, "variance": norm.running_var}
        found.append(parts | ({} if other is None else {"added": other.grad}))
    return found


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize(("channels", "side"), [(16, 8), (32, 5), (64, 3), (128, 3)])
def test_numbers_and_gradients_are_torchs(channels: int, side: int, plus: bool) -> None:
    torch.manual_seed(0)
    x = pictures(channels, side + channels % 64 // 32)  # an even side where several pixels make a row
    ours, torchs = both(x, pictures(channels, x.shape[2]) if plus else None)
    for name, one in ours.items():
        torch.testing.assert_close(one.double(), torchs[name].double(), rtol=2e-4, atol=2e-5, msg=name)


def test_statistics_hold_far_from_where_they_were_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(module, "WORTH_SHARING", 1)  # by several threads
    ours, torchs = both(pictures(64, 4, mean=300.0), None)
    for name, one in ours.items():
        torch.testing.assert_close(one.double(), torchs[name].double(), rtol=2e-3, atol=1e-3, msg=name)


def test_pictures_of_one_colour_and_numbers_that_are_none() -> None:
    norm, x = nn.BatchNorm2d(64), torch.full((2, 64, 2, 2), 7.0).to(memory_format=torch.channels_last)
    assert rectified(norm, x.requires_grad_()).abs().max() < 1e-3
    broken = x.detach().clone()
    broken[0, 3, 1, 1] = float("nan")
    y = rectified(norm, broken.requires_grad_())
    assert y[:, 3].isnan().all(), "a broken channel is not hidden"
    assert not y[:, 4].isnan().any()


def test_elsewhere_torchs_own_operations_serve() -> None:
    torch.manual_seed(0)
    x = pictures(16, 4)
    norm, other = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
    wide, left = x.contiguous(), functional.relu(other(x))
    torch.testing.assert_close(rectified(norm, wide), left)  # another layout
    with torch.no_grad():
        torch.testing.assert_close(rectified(norm, x), functional.relu(other(x)))
    torch.testing.assert_close(norm.running_var, other.running_var)
    norm.eval()
    other.eval()
    torch.testing.assert_close(rectified(norm, x, x), functional.relu(other(x) + x))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        rectified(norm.train(), x[:1, :, :1, :1])
