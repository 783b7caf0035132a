"""The clock of benchmarks/deepar.py's contestants: processor seconds of one thread, which other work on the machine
hardly changes; with several threads the wall's, since what they gain is what counts."""

import os
import time

now = time.process_time if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
