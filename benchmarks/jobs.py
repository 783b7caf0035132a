"""What a training job costs beside its training: from CreateTrainingJob to the first log line and to Completed.

    python benchmarks/jobs.py [--jobs 12] [--rows 200]

A server of its own, warmed up by one job, then jobs one after the other: XGBoost on a few rows of CSV. Event times are
those of the log and of SecondaryStatusTransitions, all of one clock, so looking at them costs nothing. Medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sagesmith.testing.server import RunningServer, running_server

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"
GROUP = "/aws/sagemaker/TrainingJobs"
ENTRY_LINES = 2  # printed by the container before the algorithm is imported
COLUMNS = 10
ROOT = Path(__file__).resolve().parents[1]
POLL = 0.05  # seconds between looks at a job's status
BUCKET = "bench"


def prepare(server: RunningServer, rows: int) -> None:
    """A CSV file to train on: a label, then columns that follow from the row's number."""
    lines = (
        ",".join([str(row % 2), *(f"{(row * k) % 97 / 97:.3f}" for k in range(1, COLUMNS))]) for row in range(rows)
    )
    s3 = server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="train/data.csv", Body="\n".join(lines).encode())


def request(name: str) -> dict[str, Any]:
    """CreateTrainingJob's members."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/", "S3DataDistributionType": "FullyReplicated"}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/bench",
        "HyperParameters": {"objective": "binary:logistic", "num_round": "5"},
        "InputDataConfig": [
            {"ChannelName": "train", "ContentType": "text/csv", "DataSource": {"S3DataSource": source}}
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/output"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }


def run(server: RunningServer, name: str) -> dict[str, float]:
    """Runs one job; seconds from CreateTrainingJob to each event."""
    sagemaker, logs = server.client("sagemaker"), server.client("logs")
    began = time.time()
    sagemaker.create_training_job(**request(name))
    seen = {"CreateTrainingJob answered": time.time()}
    while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(POLL)
    seen["Completed, as DescribeTrainingJob shows it"] = time.time()
    if job["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"{name} ended {job['TrainingJobStatus']}: {job.get('FailureReason')}")
    for transition in job["SecondaryStatusTransitions"]:
        seen[f"status {transition['Status']}"] = transition["StartTime"].timestamp()
    stream = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=name)["logStreams"][0]["logStreamName"]
    events = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)["events"]
    seen["first log line"] = events[0]["timestamp"] / 1000
    seen["first line reached the log"] = events[0]["ingestionTime"] / 1000
    seen["first log line of the algorithm"] = events[ENTRY_LINES]["timestamp"] / 1000
    seen["last log line"] = events[-1]["timestamp"] / 1000
    return {event: at - began for event, at in seen.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line of CSV per event, in the order of their medians."""
    sys.path[0] = str(ROOT)  # in place of this folder, where the jobs' `import xgboost` would find xgboost.py
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=12, help="jobs whose median is shown, after one to warm up")
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args(arguments)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        prepare(server, options.rows)
        run(server, "warm-up")
        jobs = [run(server, f"job-{number}") for number in range(options.jobs)]
    print("event,median_s,best_s,worst_s")
    events = {event: sorted(job[event] for job in jobs) for event in jobs[0]}
    for event, times in sorted(events.items(), key=lambda item: statistics.median(item[1])):
        print(f'"{event}",{statistics.median(times):.3f},{times[0]:.3f},{times[-1]:.3f}')


if __name__ == "__main__":
    main()
