"""Object2Vec with pooled embeddings in straightforward PyTorch: padded batches from a DataLoader's order, nn.Embedding
with a masked mean, dense gradients, torch.optim.Adam as it comes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """The mean of the vectors of the tokens that are not padding (id 0; others are one higher)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary + 1, width, padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, ids: Tensor) -> Tensor:
        mask = (ids > 0).unsqueeze(2).float()
        mean: Tensor = (self.embedding(ids) * mask).sum(1) / mask.sum(1)
        return mean


class Network(nn.Module):
    """Two encoders, all three comparators, two dense layers, one output layer."""

    def __init__(self, sizes: tuple[int, int], width: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = (Encoder(size, width) for size in sizes)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(4 * width, hidden), nn.Tanh(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, outputs),
        )  # fmt: skip

    def forward(self, in0: Tensor, in1: Tensor) -> Tensor:
        u, v = self.dropout(self.first(in0)), self.dropout(self.second(in1))
        answer: Tensor = self.mlp(torch.cat([u * v, u, v, (u - v).abs()], dim=1))
        return answer


def padded(lists: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, lists))
    return torch.tensor([[one + 1 for one in row] + [0] * (longest - len(row)) for row in lists])


def train(pairs: Sequence[Any], labels: Any, settings: dict[str, Any], threads: int) -> tuple[Network, float]:
    """The network after all epochs, and the processor seconds they took."""
    torch.set_num_threads(threads)
    torch.manual_seed(settings["seed"])
    classes = settings.get("num_classes", 0)
    sizes = settings["enc0_vocab_size"], settings["enc1_vocab_size"]
    network = Network(sizes, settings["enc_dim"], settings["mlp_dim"], classes or 1, settings["dropout"])
    decay = settings["weight_decay"]
    optimizer = torch.optim.Adam(network.parameters(), settings["learning_rate"], weight_decay=decay)
    target = torch.tensor(labels, dtype=torch.int64 if classes else torch.float32)
    started = time.process_time()
    for _ in range(settings["epochs"]):
        network.train()
        order = np.random.default_rng(settings["seed"]).permutation(len(pairs))
        for at in range(0, len(order), settings["mini_batch_size"]):
            rows = order[at : at + settings["mini_batch_size"]]
            in0, in1 = (padded([pairs[k][side] for k in rows]) for side in (0, 1))
            answers = network(in0, in1)
            if classes:
                loss = nn.functional.cross_entropy(answers, target[rows])
            else:
                loss = nn.functional.mse_loss(answers[:, 0], target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network, time.process_time() - started


def answers(network: Network, pairs: Sequence[Any]) -> np.ndarray:
    """Logits or predictions, (n, outputs)."""
    network.eval()
    with torch.no_grad():
        parts = [network(*(padded([p[side] for p in pairs[at : at + 1024]]) for side in (0, 1)))
                 for at in range(0, len(pairs), 1024)]  # fmt: skip
    return np.asarray(torch.cat(parts).numpy())
