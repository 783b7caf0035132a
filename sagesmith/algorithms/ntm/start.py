"""Start: weights from which the network learns quickly and does not collapse.

From small random weights the bound is soonest lowered by giving topics up: mu and sigma become the prior's, and the
default settings (sigmoid, no batch norm, adadelta) never leave that (docs/decisions/0030). So topics begin as clusters
of documents, found by spherical k-means (Dhillon and Modha, Machine Learning 42, 2001) on a sample, and the encoder
begins by telling them: its first layer sees mixtures of the clusters' directions, every layer is scaled to mean 0 and
variance 1 on the sample (Salimans and Kingma, Weight Normalization, NeurIPS 2016), and mu is the ridge regression on
the documents' likeness to the clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sagesmith.algorithms.ntm.network import Documents, Network

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE = 8192  # documents that the clusters are found in
MEASURED = 2048  # of these, documents by which layers are scaled
TURNS = 10  # of k-means
SEEDS = 10  # documents whose mean a cluster starts from
SMOOTHING = 0.05  # added to how often a word is in a cluster, relative to all: bounds the logarithm
STRENGTH = 0.1  # of the topics' logits: words that a cluster holds by chance are soon outweighed
RIDGE = 0.01


def begin(network: Network, counts: Any, random: np.random.Generator) -> None:
    """Gives a network its first weights, from documents (D, V) CSR without empty rows; D may be 0."""
    if not counts.shape[0]:
        return
    sample = counts[random.permutation(counts.shape[0])[:SAMPLE]]
    clusters, likeness, weighed = _clusters(sample, network.topics.shape[1], random)
    network.eval()
    with torch.no_grad():
        overall = np.asarray(sample.sum(axis=0), np.float64).ravel() + 1
        overall /= overall.sum()
        network.background.copy_(torch.from_numpy(np.log(overall)))
        network.topics.copy_(torch.from_numpy(STRENGTH / network.spread * _topics(sample, likeness, overall)))
        _encoder(network, sample[:MEASURED], clusters * weighed, likeness[:MEASURED], random)


def _clusters(sample: Any, topics: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions (K, V) of length 1, the cosine of each document with each (D, K), and the words' weights (V,)."""
    from scipy import sparse

    documents = sample.shape[0]
    weights = np.log1p(documents / (1 + np.bincount(sample.indices, minlength=sample.shape[1]))).astype(np.float32)
    values = np.log1p(sample.data) * weights[sample.indices]
    rows = sparse.csr_matrix((values, sample.indices, sample.indptr), sample.shape)
    length = np.sqrt(np.add.reduceat(values * values, sample.indptr[:-1]))
    rows.data /= np.repeat(length, np.diff(sample.indptr))
    seeds = random.integers(0, documents, (topics, SEEDS))
    membership = sparse.csr_matrix(
        (np.ones(seeds.size, np.float32), (np.repeat(np.arange(topics), SEEDS), seeds.ravel())), (topics, documents)
    )
    for turn in range(TURNS + 1):
        clusters = np.asarray((membership @ rows).todense())
        for lone in np.flatnonzero(np.diff(membership.indptr) == 0):
            clusters[lone] = rows[random.integers(documents)].toarray()[0]
        clusters /= np.linalg.norm(clusters, axis=1, keepdims=True)
        likeness = rows @ clusters.T
        if turn < TURNS:
            nearest = likeness.argmax(axis=1)
            membership = sparse.csr_matrix(
                (np.ones(documents, np.float32), (nearest, np.arange(documents))), (topics, documents)
            )
    return clusters, likeness, weights


def _topics(sample: Any, likeness: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """W (V, K): the logarithm of how much more often than overall a word is in a cluster, less its mean over topics."""
    from scipy import sparse

    documents, topics = likeness.shape
    membership = sparse.csr_matrix(
        (np.ones(documents, np.float32), (likeness.argmax(axis=1), np.arange(documents))), (topics, documents)
    )
    words = np.asarray((membership @ sample).todense(), np.float64)
    shares = words / np.maximum(words.sum(axis=1, keepdims=True), 1)
    logits = np.log(shares / overall + SMOOTHING).T
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def _encoder(
    network: Network, sample: Any, directions: np.ndarray, likeness: np.ndarray, random: np.random.Generator
) -> None:
    device = network.background.device
    documents = Documents.of(sample, device)
    mixtures = random.normal(size=(directions.shape[0], network.bias.shape[0])).astype(np.float32)
    network.table.weight.copy_(torch.from_numpy(directions.T @ mixtures))
    h = _scaled(network.first(documents), network.table.weight, network.bias, 1)
    h = network.activation(h)
    for layer in network.linear:
        h = network.activation(_scaled(layer(h), layer.weight, layer.bias, 0))
    target = torch.from_numpy(likeness).to(device)
    target = (target - target.mean(dim=0)) / target.std(dim=0, correction=0).clamp(min=1e-6)
    centre = h.mean(dim=0)
    h = h - centre
    penalty = (RIDGE * h.var(correction=0).clamp(min=1e-6)) * len(h) * torch.eye(h.shape[1], device=device)
    found = torch.linalg.solve(h.T @ h + penalty, h.T @ target)
    network.mean.weight.copy_(found.T)
    network.mean.bias.copy_(-(centre @ found))


def _scaled(sums: Tensor, weight: Tensor, bias: Tensor, axis: int) -> Tensor:
    """Scales a layer whose unit is an index of `axis` so that its sums have mean 0 and variance 1; gives these."""
    scale = 1 / sums.std(dim=0, correction=0).clamp(min=1e-6)
    weight.mul_(scale if axis else scale[:, None])
    bias.mul_(scale)
    sums = sums * scale
    centre = sums.mean(dim=0)
    bias.sub_(centre)
    return sums - centre
