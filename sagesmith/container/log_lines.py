"""The form of a job's log lines, from which metrics are scraped: AWS's own, letter by letter.

Built-in algorithms write `[05/16/2021 12:27:47 INFO 140141566281536] message`; framework images (XGBoost) write
`[2021-05-16:12:27:47:INFO] message`. Some lines stand bare in both, such as `#metrics {...}` and XGBoost's rounds.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

FIRST_PARTY = "[%(asctime)s %(levelname)s %(thread)d] %(message)s"
FIRST_PARTY_TIME = "%m/%d/%Y %H:%M:%S"
FRAMEWORK = "[%(asctime)s:%(levelname)s] %(message)s"
FRAMEWORK_TIME = "%Y-%m-%d:%H:%M:%S"
BARE = {"bare": True}  # extra= of a record that is printed as it is

logger = logging.getLogger("sagesmith.container")


class LineFormatter(logging.Formatter):
    """A record as a line of a job's log, times in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self, *, framework: bool) -> None:
        super().__init__(FRAMEWORK if framework else FIRST_PARTY, FRAMEWORK_TIME if framework else FIRST_PARTY_TIME)

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "bare", False):
            return record.getMessage()
        return super().format(record)


def start_logging(*, framework: bool = False, level: int = logging.INFO) -> None:
    """Sends all logging of this process to stdout in the given form; may be called again to change the form."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter(framework=framework))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def progress_line(host: str, done: int, total: int, whole: bool = False) -> str:
    """`#progress_metric: host=algo-1, completed 50.0 % of epochs`; `whole` gives `50 %`, rounded down."""
    percent = 100.0 * done / total if total else 100.0
    if whole:
        percent = 100 * done // total if total else 100
    return f"#progress_metric: host={host}, completed {percent!r} % of epochs"


def throughput_line(host: str, records_per_second: float) -> str:
    """`#throughput_metric: host=algo-1, train throughput=54276.9 records/second`."""
    return f"#throughput_metric: host={host}, train throughput={records_per_second} records/second"


def metrics_line(start: float, end: float, dimensions: Mapping[str, Any], values: Mapping[str, float | int]) -> str:
    """AWS's `#metrics {...}`; `start` and `end` in seconds since the epoch, each value one observation."""
    observed = {name: {"sum": value, "count": 1, "min": value, "max": value} for name, value in values.items()}
    content = {"StartTime": start, "EndTime": end, "Dimensions": dict(dimensions), "Metrics": observed}
    return f"#metrics {json.dumps(content)}"
