"""`python -m sagesmith.algorithms`: the specifications of all algorithms as one JSON list."""

from __future__ import annotations

import json
import sys

from sagesmith.algorithms import specifications

if __name__ == "__main__":
    json.dump(specifications(), sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")
