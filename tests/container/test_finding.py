"""Which algorithm runs, and what its process does not import."""

from __future__ import annotations

import subprocess
import sys

HIDDEN = """
import sys
from sagesmith.container.finding import find, spare_imports
spare_imports(find("sagemaker-xgboost"))
import xgboost
print("sklearn.base" in sys.modules, "scipy.stats" in sys.modules, xgboost.__name__)
"""


def test_a_containers_own_process_spares_what_xgboost_would_import_without_need() -> None:
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False False xgboost\n", "")
