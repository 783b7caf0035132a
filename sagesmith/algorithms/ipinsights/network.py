"""Network: the vectors of entities and of IPv4 addresses. Their dot product is the score.

    entity      row (hash mod num_entity_vectors) of a table
    address     h = T[/8] + T[/16] + T[/24] + T[/32], the rows of one table that the address's four prefixes have,
                then num_ip_encoder_layers times h <- h + relu(h) W + b

An address that was never seen shares its wider prefixes' rows with those that were. The layers are residual (He et al.,
Identity Mappings in Deep Residual Networks, 2016): with small W they begin as the identity, so that a hundred of them
learn as one does; a dense layer upon a plain sum of rows would add nothing, hence the rectifier before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

PREFIXES = (8, 16, 24, 32)  # bits
FEWEST_BITS, MOST_BITS = 12, 18  # of a prefix's slot number: 4,096 to 262,144 slots for each length above /8
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiplicative hashing, Knuth, TAOCP 3, 6.4
ROWS = 1 << 12  # pairs that are scored at once


@dataclass
class Network:
    """`entities` (N, d), `prefixes` (256 + 3 * 2**bits, d), `weights` (L, d, d), `biases` (L, d); float32."""

    entities: np.ndarray
    prefixes: np.ndarray
    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def drawn(cls, entities: int, width: int, layers: int, random: np.random.Generator) -> Self:
        """A network before training: small random entities and weights, prefixes that say nothing yet."""
        bits = min(MOST_BITS, max(FEWEST_BITS, (entities - 1).bit_length()))
        table = random.random((entities, width), np.float32)  # uniform; shaped in place, as it may be gigabytes
        table -= 0.5
        table *= 2 / width**0.5
        weights = random.standard_normal((layers, width, width), np.float32)
        weights *= 0.5 / (width * max(1, layers)) ** 0.5
        prefixes = np.zeros((256 + 3 * 2**bits, width), np.float32)
        return cls(table, prefixes, weights, np.zeros((layers, width), np.float32))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The network that `arrays` gave.

        Raises:
            KeyError, ValueError: an array is missing or does not fit the others.
        """
        network = cls(*(np.ascontiguousarray(arrays[name], np.float32) for name in cls.__dataclass_fields__))
        width = network.entities.shape[-1]
        layers = len(network.weights)
        shapes = [array.shape for array in network.arrays().values()]
        slots = len(network.prefixes) - 256
        if slots % 3 or (slots // 3).bit_count() != 1:
            raise ValueError(f"{len(network.prefixes)} rows of prefixes are not 256 and three powers of two")
        wanted = [(len(network.entities), width), (256 + slots, width), (layers, width, width), (layers, width)]
        if shapes != wanted or not len(network.entities):
            raise ValueError(f"arrays of shapes {shapes} make no network")
        return network

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def slots_of(self, hashes: np.ndarray) -> np.ndarray:
        """The rows of entities, (n,) int32."""
        return (hashes % np.uint64(len(self.entities))).astype(np.int32)

    def prefix_slots(self, ips: np.ndarray) -> np.ndarray:
        """The rows of an address's prefixes, (4, n) int32: /8 has rows of its own, longer ones are hashed."""
        slots = (len(self.prefixes) - 256) // 3
        shift = np.uint64(65 - slots.bit_length())
        found = np.empty((len(PREFIXES), len(ips)), np.int32)
        found[0] = ips >> 24
        for k, bits in enumerate(PREFIXES[1:]):
            spread = (ips >> np.uint32(32 - bits)).astype(np.uint64)
            spread *= SPREAD
            spread >>= shift
            spread += np.uint64(256 + k * slots)
            found[k + 1] = spread
        return found

    def encode(self, ips: np.ndarray) -> np.ndarray:
        """The vectors of addresses, (n, d)."""
        slots = self.prefix_slots(ips)
        out: np.ndarray = self.prefixes[slots[0]]
        for rows in slots[1:]:
            out += self.prefixes[rows]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            out += times(np.maximum(out, 0), weight) + bias
        return out

    def scores(self, slots: np.ndarray, ips: np.ndarray, threads: int = 1) -> np.ndarray:
        """The dot products of entities (by row) and addresses, (n,)."""
        out = np.empty(len(ips), np.float32)

        def score(at: int) -> None:
            part = slice(at, at + ROWS)
            out[part] = np.einsum("nd,nd->n", self.entities[slots[part]], self.encode(ips[part]))

        if threads == 1 or len(ips) <= ROWS:
            for at in range(0, len(ips), ROWS):
                score(at)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(score, range(0, len(ips), ROWS)))
        return out


def times(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """rows @ weight; a row alone is doubled first, as BLAS sums a vector in another order than a matrix."""
    product: np.ndarray = (np.concatenate([rows, rows]) @ weight)[:1] if len(rows) == 1 else rows @ weight
    return product
