"""The gang of a training job: one agent per instance, each with its paper."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sagesmith.contract import AgentPaper
from sagesmith.core.names import Image, S3Uri, runs_bucket
from sagesmith.engines.base import Gang
from sagesmith.services.instances import cores_of, memory_of
from sagesmith.services.sagemaker.training.record import hosts_of

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
CHECKPOINTS = "/opt/ml/checkpoints"  # CheckpointConfig.LocalPath's default


def gang_of(document: Document, ctx: Context) -> Gang:
    """The gang under the run id that the document holds."""
    hosts = hosts_of(document)
    instance_type = document.body["ResourceConfig"]["InstanceType"]
    return Gang(
        run=document.private["run"],
        papers=tuple(_paper(document, host, hosts, ctx) for host in hosts),
        cores=len(hosts) * cores_of(instance_type),
        memory=len(hosts) * memory_of(instance_type),
    )


def _paper(document: Document, host: str, hosts: list[str], ctx: Context) -> AgentPaper:
    body, run = document.body, document.private["run"]
    specification, output = body["AlgorithmSpecification"], body["OutputDataConfig"]
    entrypoint = specification.get("ContainerEntrypoint")
    repository = Image.parse(specification["TrainingImage"]).repository
    command = [sys.executable, "-m", "sagesmith.container", "train", repository]
    if entrypoint:
        command = [*entrypoint, *specification.get("ContainerArguments", ())]
    access_key, secret_key = ctx.world.agent_key
    paper = AgentPaper(
        run=run,
        kind="training",
        name=document.name,
        arn=document.arn,
        region=document.region,
        account=document.account,
        host=host,
        hosts=hosts,
        command=command,
        instance_type=body["ResourceConfig"]["InstanceType"],
        environment=_environment(document),
        cores=cores_of(body["ResourceConfig"]["InstanceType"]),
        hyperparameters=body["HyperParameters"],
        channels=body.get("InputDataConfig", []),
        input_mode=specification["TrainingInputMode"],
        model_output=body["ModelArtifacts"]["S3ModelArtifacts"],
        data_output=str(S3Uri.parse(output["S3OutputPath"]).join(document.name, "output", "output.tar.gz")),
        compression=output["CompressionType"],
        metrics=specification["MetricDefinitions"],
        log_group=LOG_GROUP,
        log_stream=f"{document.name}/{host}-{int(document.private['since'] * 1000)}",
        stop_grace=ctx.world.config.stop_grace,
        reports=f"{S3Uri(runs_bucket(ctx), run)}/",
        address_file=str(ctx.world.config.address_file),
        access_key=access_key,
        secret_key=secret_key,
    )
    if not ctx.world.config.s3_endpoint:
        paper["objects"] = str(ctx.world.config.objects.absolute())
    if entrypoint:
        paper["own_entrypoint"] = True
    if "CheckpointConfig" in body:
        paper["checkpoint"] = {"LocalPath": CHECKPOINTS, **body["CheckpointConfig"]}
    return paper


def _environment(document: Document) -> dict[str, str]:
    return {
        "AWS_REGION": document.region,
        **document.body.get("Environment", {}),
        "TRAINING_JOB_NAME": document.name,
        "TRAINING_JOB_ARN": document.arn,
    }
