"""The same kind of model as IP Insights in plain PyTorch, as one would write it: embeddings, layers, BCE, Adam.

    python plain_torch.py pairs.npz settings.json

pairs.npz: `slots`, `ips` to learn from; `test_slots`, `test_ips` to score. Prints one line of JSON and writes
scores.npy beside the pairs. Entities and prefixes have rows of tables as in IP Insights, with the same initial state.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

PREFIXES = (16, 24, 32)
SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)  # as a signed number: torch has no unsigned 64-bit products


class Model(nn.Module):
    """Two towers: a table of entities; summed rows of four prefixes and residual layers."""

    def __init__(self, entities: int, bits: int, width: int, layers: int, sparse: bool) -> None:
        super().__init__()
        self.bits = bits
        self.entities = nn.Embedding(entities, width, sparse=sparse)
        self.prefixes = nn.EmbeddingBag(256 + 3 * 2**bits, width, mode="sum", sparse=sparse)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        nn.init.uniform_(self.entities.weight, -1 / width**0.5, 1 / width**0.5)
        nn.init.zeros_(self.prefixes.weight)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.5 / (width * layers) ** 0.5)
            nn.init.zeros_(layer.bias)

    def encode(self, ips: torch.Tensor) -> torch.Tensor:
        columns = [ips >> 24]
        for k, length in enumerate(PREFIXES):
            spread = (ips >> (32 - length)) * SPREAD
            columns.append(256 + k * 2**self.bits + ((spread >> (64 - self.bits)) & (2**self.bits - 1)))
        h = self.prefixes(torch.stack(columns, dim=1))
        for layer in self.layers:
            h = h + layer(torch.relu(h))
        return h


def step(model: Model, slots: torch.Tensor, ips: torch.Tensor, settings: dict[str, int]) -> torch.Tensor:
    """The cross-entropy of a batch, its negatives drawn: summed over a row's pairs, averaged over rows."""
    rows, drawn = len(slots), settings["random"]
    addresses = torch.cat([ips, torch.randint(0, 1 << 32, (rows * drawn,))])
    vectors, entity = model.encode(addresses), model.entities(slots)
    groups = [vectors[:rows], *vectors[rows:].split(rows)] if drawn else [vectors]
    groups += [vectors[:rows][torch.randperm(rows)] for _ in range(settings["shuffled"])]
    scores = torch.cat([(entity * group).sum(dim=1) for group in groups])
    truth = torch.zeros(len(scores))
    truth[:rows] = 1
    return nn.functional.binary_cross_entropy_with_logits(scores, truth, reduction="sum") / rows


def main() -> None:
    pairs, settings = np.load(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    slots, ips = (torch.from_numpy(pairs[name].astype(np.int64)) for name in ("slots", "ips"))
    sparse = settings["adam"] == "sparse"
    model = Model(settings["entities"], settings["bits"], settings["width"], settings["layers"], sparse)
    tables = [model.entities.weight, model.prefixes.weight]
    rate, decay = settings["rate"], settings["decay"]
    if sparse:  # SparseAdam has no weight decay, so the peer goes without
        optimizers = [torch.optim.SparseAdam(tables, lr=rate)]
        if settings["layers"]:
            optimizers.append(torch.optim.Adam(model.layers.parameters(), lr=rate, weight_decay=decay))
    else:
        optimizers = [torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)]
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(settings["epochs"]):
        for rows in torch.randperm(len(slots)).split(settings["batch"]):
            for optimizer in optimizers:
                optimizer.zero_grad()
            step(model, slots[rows], ips[rows], settings).backward()
            for optimizer in optimizers:
                optimizer.step()
    wall, used = time.perf_counter() - wall, time.process_time() - used
    scores = []
    with torch.no_grad():
        test = [torch.from_numpy(pairs[f"test_{name}"].astype(np.int64)) for name in ("slots", "ips")]
        for entity, ip in zip(*(part.split(10_000) for part in test), strict=True):
            scores.append((model.entities(entity) * model.encode(ip)).sum(dim=1))
    np.save(Path(sys.argv[1]).with_name("scores.npy"), torch.cat(scores).numpy())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall, "processor": used, "memory": memory, "version": torch.__version__}))


if __name__ == "__main__":
    main()
