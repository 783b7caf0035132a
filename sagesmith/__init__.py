"""sagesmith: Amazon SageMaker's machine-learning offering as open, self-hosted software."""

from __future__ import annotations

__version__ = "0.1.0"
