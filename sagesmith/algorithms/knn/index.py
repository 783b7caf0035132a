"""index: a faiss index over the sample, built and searched. Distances are faiss's: squared L2, or the inner product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sagesmith.algorithms.knn.exact import Exact

FLAT, IVF_FLAT, IVF_PQ = "faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ"
CODES = 256  # of a block: faiss.IVFPQ codes each in one byte


def build(vectors: np.ndarray, settings: Mapping[str, Any]) -> Any:
    """A trained index over (n, d) float32 vectors, those of COSINE of length 1 already.

    Raises:
        ValueError: too few rows for the number of lists, or for the 256 codes of a block.
    """
    import faiss

    index: Any
    count, width = vectors.shape
    product = settings["index_metric"] != "L2"
    flat = faiss.IndexFlatIP(width) if product else faiss.IndexFlatL2(width)
    if settings["index_type"] == FLAT:
        flat.add(vectors)
        return flat
    lists = _lists(settings, count)
    metric = faiss.METRIC_INNER_PRODUCT if product else faiss.METRIC_L2
    if settings["index_type"] == IVF_FLAT:
        index = faiss.IndexIVFFlat(flat, width, lists, metric)
    else:
        if count < CODES:
            raise ValueError(
                f"index_type faiss.IVFPQ codes each block of columns in one byte, which takes at least {CODES} rows; "
                f"the sample has {count}"
            )
        index = faiss.IndexIVFPQ(flat, width, lists, settings["faiss_index_pq_m"], 8, metric)
        index.pq.cp.min_points_per_centroid = 1  # faiss would warn of less than 39 for each
    index.cp.min_points_per_centroid = 1
    index.nprobe = min(settings["faiss_index_nprobe"], lists)
    index.train(vectors)
    index.add(vectors)
    return index


def _lists(settings: Mapping[str, Any], rows: int) -> int:
    wanted = settings["faiss_index_ivf_nlists"]
    if wanted == "auto":
        return max(1, int(np.sqrt(rows)))
    if wanted > rows:
        raise ValueError(f"faiss_index_ivf_nlists is {wanted}, but the sample has {rows} rows")
    return int(wanted)


def settings_of(index: Any, normalize: bool) -> dict[str, Any]:
    """The hyperparameters that an index tells of."""
    metric = "L2" if index.metric_type else "COSINE" if normalize else "INNER_PRODUCT"
    if not hasattr(index, "nprobe"):
        return {"index_type": FLAT, "index_metric": metric}
    found = {"faiss_index_ivf_nlists": index.nlist, "faiss_index_nprobe": index.nprobe, "index_metric": metric}
    if not hasattr(index, "pq"):
        return {**found, "index_type": IVF_FLAT}
    return {**found, "index_type": IVF_PQ, "faiss_index_pq_m": index.pq.M}


class Searcher:
    """Searches an index; an exact one by products in float32 where that is faster than faiss (exact.py)."""

    def __init__(self, index: Any, threads: int) -> None:
        self.index, self.threads = index, threads
        self.product = index.metric_type == 0
        self._exact = None if hasattr(index, "nprobe") else Exact(index, self.product, threads)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and row numbers of the k nearest, (n, k) each, the nearest first.

        Where the lists that faiss looks into hold fewer than k rows, it looks into all of them.
        """
        if self._exact is not None:
            return self._exact.search(queries, k)
        import faiss

        distances, rows = self.index.search(queries, k)
        short = np.flatnonzero((rows < 0).any(axis=1))
        if len(short):
            everywhere = faiss.SearchParametersIVF()
            everywhere.nprobe = self.index.nlist
            distances[short], rows[short] = self.index.search(queries[short], k, params=everywhere)
        return distances, rows
