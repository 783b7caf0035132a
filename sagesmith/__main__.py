"""`python -m sagesmith`: the same as the `sagesmith` command."""

from __future__ import annotations

from sagesmith.cli import main

if __name__ == "__main__":
    main()
