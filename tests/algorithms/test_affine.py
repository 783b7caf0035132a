"""The products through oneDNN are torch's own, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sagesmith.algorithms.affine import Affine, affine, tanh, tanh_

SHAPES = [(1, 3), (7, 3), (0, 3), (2, 5, 3), (4, 0, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_an_affine_map_is_torchs(shape: tuple[int, ...], kind: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape, dtype=kind), torch.randn(6, 3, dtype=kind), torch.randn(6, dtype=kind)
    torch.testing.assert_close(affine(x, weight, bias), F.linear(x, weight, bias))
    torch.testing.assert_close(affine(x, weight.t().contiguous().t()), x @ weight.t())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layers_gradients_are_torchs(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    made, expected = Affine(3, 6, bias=bias), torch.nn.Linear(3, 6, bias=bias)
    expected.load_state_dict(made.state_dict())
    wanted = torch.randn(*shape[:-1], 6)
    gradients = []
    for layer in (made, expected):
        torch.manual_seed(1)
        x = torch.randn(shape, requires_grad=True)
        said = layer(x)
        (said * wanted).sum().backward()
        gradients.append([said, x.grad, *(weight.grad for weight in layer.parameters())])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_tanh_is_tanh_and_so_is_its_gradient() -> None:
    x = torch.cat((torch.linspace(-30, 30, 10001), torch.tensor([torch.inf, -torch.inf]))).requires_grad_()
    said = tanh(x)
    torch.testing.assert_close(said, x.tanh(), rtol=0, atol=3e-7)
    gradient = torch.autograd.grad(said.sum(), x)[0]
    torch.testing.assert_close(gradient, 1 - x.detach().tanh() ** 2, rtol=0, atol=1e-6)
    given = x.detach().clone()
    assert torch.equal(tanh_(given), said)
    assert torch.isnan(tanh(torch.tensor([torch.nan]))).all()
