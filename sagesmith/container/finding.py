"""Which algorithm a container runs, by its image's repository name or its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagesmith.container.failures import JobError

if TYPE_CHECKING:
    from sagesmith.algorithms.base import Algorithm


def find(word: str) -> type[Algorithm]:
    """The algorithm of an image's repository name ("sagemaker-xgboost"), or of that name ("xgboost").

    Raises:
        JobError: there is none; names those that exist.
    """
    from sagesmith.algorithms import registry

    if not word:
        raise JobError("No algorithm was named: give it as an argument or in SAGESMITH_ALGORITHM")
    known = registry()
    for algorithm in known.values():
        if word in algorithm.images:
            return algorithm
    if word in known:
        return known[word]
    images = sorted({image for algorithm in known.values() for image in algorithm.images} | set(known))
    raise JobError(f"There is no algorithm {word!r}; there are: {', '.join(images) or 'none'}")
