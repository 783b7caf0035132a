"""The network of NTM: an encoder of counts to a normal distribution over topics, and a decoder back to words.

Papers: Miao et al., Neural Variational Inference for Text Processing, ICML 2016 (the bound, the reparametrised draw);
Srivastava and Sutton, Autoencoding Variational Inference for Topic Models, ICLR 2017 (where batch norm stands).

    h = encoder(log(1 + x));  mu, log sigma^2 = two linear heads of h;  z = mu + sigma eps
    theta = softmax(z);       p(word | theta) = softmax(W theta + b);   W = 2 sqrt(K) V

V is what an optimizer moves: a document's theta is near 1 / K, so that W must grow long before it tells words apart.
While training the encoder sees a random half of a document's words and the decoder tells all of them: it learns to
tell topics from little, and no word is sure to give a topic away.

Documents come as the entries of sparse rows: the first layer sums rows of its table, and the likelihood picks its
words, so that (documents, V) is only ever made of the decoder's logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

DROPPED = 0.5  # of the words that the encoder is shown in training
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class Documents:
    """n documents: their entries in order, and where each begins.

    Attributes:
        starts: (n,) int64; rows, words: (entries,) int64; counts: (entries,) float32; lengths: (n,) float32.
    """

    starts: Tensor
    rows: Tensor
    words: Tensor
    counts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, counts: Any, device: torch.device) -> Documents:
        """Of a CSR matrix (n, V) without empty rows."""
        each = np.diff(counts.indptr)
        rows = np.repeat(np.arange(len(each)), each)
        lengths = np.add.reduceat(counts.data, counts.indptr[:-1]) if len(each) else np.empty(0, np.float32)
        arrays = (counts.indptr[:-1].astype(np.int64), rows, counts.indices.astype(np.int64), counts.data, lengths)
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


class Network(nn.Module):
    """See the module. `forward` gives what the loss is made of.

    Args:
        width: V, size of the vocabulary.
        topics: K.
        layers: sizes of the encoder's layers.
        batch_norm: normalise each layer of the encoder, mu, log sigma^2 and the decoder's logits over the batch.

    Attributes:
        topics: (V, K), W / `spread`.
    """

    def __init__(self, width: int, topics: int, layers: list[int], activation: str, batch_norm: bool) -> None:
        super().__init__()
        self.spread = 4 * topics**0.5
        self.table = nn.EmbeddingBag(width, layers[0], mode="sum")
        self.bias = nn.Parameter(torch.zeros(layers[0]))
        self.inner = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(layers))
        self.activation = ACTIVATIONS[activation]()
        self.mean = nn.Linear(layers[-1], topics)
        self.log_variance = nn.Linear(layers[-1], topics)
        self.topics = nn.Parameter(torch.empty(width, topics).normal_(0, 0.1))
        self.background = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.table.weight, 0, width**-0.5)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.zeros_(self.log_variance.bias)
        normal = [nn.BatchNorm1d(size) if batch_norm else nn.Identity() for size in layers]
        self.normal = nn.ModuleList(normal)
        self.mean_normal = _normal(topics, batch_norm)
        self.variance_normal = _normal(topics, batch_norm)
        self.logit_normal = _normal(width, batch_norm)

    @property
    def linear(self) -> list[nn.Linear]:
        """The encoder's layers after the first."""
        return [layer for layer in self.inner if isinstance(layer, nn.Linear)]

    def first(self, documents: Documents) -> Tensor:
        """The first layer's sums, (n, layers[0])."""
        inputs = torch.log1p(documents.counts)
        if self.training:
            inputs = functional.dropout(inputs, DROPPED)
        summed = self.table(documents.words, documents.starts, per_sample_weights=inputs)
        return summed + self.bias  # type: ignore[no-any-return]

    def encode(self, documents: Documents) -> tuple[Tensor, Tensor]:
        """mu and log sigma^2, (n, K) each."""
        h = self.activation(self.normal[0](self.first(documents)))
        for layer, normal in zip(self.inner, self.normal[1:], strict=True):
            h = self.activation(normal(layer(h)))
        return self.mean_normal(self.mean(h)), self.variance_normal(self.log_variance(h))

    def decode(self, theta: Tensor) -> Tensor:
        """The logits of words, (n, V)."""
        theta = theta * self.spread
        if isinstance(self.logit_normal, nn.Identity):
            return torch.addmm(self.background, theta, self.topics.T)
        return self.logit_normal(theta @ self.topics.T).add_(self.background)  # type: ignore[no-any-return]

    def forward(self, documents: Documents) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL of each document, (n,) each, divided by its length.

        z is drawn while training and the mean otherwise.
        """
        mean, log_variance = self.encode(documents)
        z = mean
        if self.training:
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.decode(functional.softmax(z, dim=1))
        shares = documents.counts / documents.lengths[documents.rows]
        recons: Tensor = Surprise.apply(logits, documents.rows, documents.words, shares)  # type: ignore[no-untyped-call]
        kld = -0.5 * (1 + log_variance - mean**2 - torch.exp(log_variance)).sum(dim=1) / documents.lengths
        return recons, kld


def _normal(size: int, wanted: bool) -> nn.Module:
    return nn.BatchNorm1d(size, affine=False) if wanted else nn.Identity()


class Surprise(torch.autograd.Function):
    """-sum of shares · log softmax(logits), for each document.

    The logits are overwritten, first by their exponentials and then by the gradient: an array of (n, V) that is new
    at each step costs more than what is worked out in it. So there is one way back, and the logits are nobody else's.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, words: Tensor, shares: Tensor) -> Tensor:
        largest = logits.amax(dim=1)
        picked = logits[rows, words] - largest[rows]
        sums = logits.sub_(largest[:, None]).exp_().sum(dim=1)
        ctx.save_for_backward(sums, rows, words, shares)
        ctx.exponentials = logits
        return torch.log(sums).index_add_(0, rows, picked * shares, alpha=-1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        sums, rows, words, shares = ctx.saved_tensors
        gradient = ctx.exponentials.mul_((upstream[0] / sums)[:, None])
        gradient.index_put_((rows, words), -shares * upstream[0][rows], accumulate=True)
        return gradient, None, None, None


def folded(network: Network) -> dict[str, np.ndarray]:
    """The finished model: `layer_<i>_weight` and `_bias` of the encoder, `mean_weight`, `mean_bias`, `topics` (V, K)
    and `background` (V,), with the running moments of batch norm worked into them. Weights are (in, out).
    """
    made: dict[str, Tensor] = {}
    weights = [network.table.weight.T, *(layer.weight for layer in network.linear)]
    biases = [network.bias, *(layer.bias for layer in network.linear)]
    for number, (weight, bias, normal) in enumerate(zip(weights, biases, network.normal, strict=True)):
        made[f"layer_{number}_weight"], made[f"layer_{number}_bias"] = _folded(weight, bias, normal)
    made["mean_weight"], made["mean_bias"] = _folded(network.mean.weight, network.mean.bias, network.mean_normal)
    topics, shift = _folded(network.topics * network.spread, torch.zeros_like(network.background), network.logit_normal)
    made["topics"], made["background"] = topics.T, network.background + shift
    return {name: np.ascontiguousarray(tensor.detach().cpu().numpy()) for name, tensor in made.items()}


def _folded(weight: Tensor, bias: Tensor, normal: nn.Module) -> tuple[Tensor, Tensor]:
    """Weights (out, in) and bias (out,), normalised, as (in, out) and (out,)."""
    if not isinstance(normal, nn.BatchNorm1d):
        return weight.T, bias
    assert normal.running_mean is not None
    assert normal.running_var is not None
    scale = torch.rsqrt(normal.running_var + normal.eps)
    if normal.affine:
        scale = scale * normal.weight
    bias = (bias - normal.running_mean) * scale
    return (weight * scale[:, None]).T, bias + normal.bias if normal.affine else bias
