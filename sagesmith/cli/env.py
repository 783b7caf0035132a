"""`sagesmith env`: what AWS clients need to find this server."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sagesmith.cli import print_json
from sagesmith.cli.connection import address
from sagesmith.core.config import Config

_ROLE = "arn:aws:iam::{account}:role/service-role/SageMakerRole"

# The keys of the SDK's configuration file that take a role, so that none of its calls has to ask STS for one.
_ROLES = (
    ("TrainingJob", "RoleArn"),
    ("ProcessingJob", "RoleArn"),
    ("Model", "ExecutionRoleArn"),
    ("AutoMLJob", "RoleArn"),
    ("AutoMLJobV2", "RoleArn"),
    ("FeatureGroup", "RoleArn"),
    ("Pipeline", "RoleArn"),
    ("CompilationJob", "RoleArn"),
)


@click.command("env")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The server's data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of shell exports.")
def command(data: Path | None, as_json: bool) -> None:
    """Print the environment that points any AWS client at this server, and write the Python SDK's configuration.

    The SageMaker Python SDK asks STS at AWS's own address for the default bucket and role, whatever the endpoint;
    the configuration file that is written here answers both, so that it never asks.

    \b
    Examples:
      eval "$(sagesmith env)"
      sagesmith env --json
    """
    config = Config.load(data=data)
    variables = environment(config)
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def environment(config: Config) -> dict[str, str]:
    """The variables, after the SDK's configuration file has been written beside the keys."""
    from sagesmith.gateway.keys import Keys

    key = Keys(config.keys_file).first
    return {
        "AWS_ENDPOINT_URL": address(config),
        "AWS_DEFAULT_REGION": config.region,
        "AWS_REGION": config.region,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(write_sdk_configuration(config)),
    }


def write_sdk_configuration(config: Config) -> Path:
    """Writes `sagemaker-config.yaml` into the data folder and returns its path."""
    role = _ROLE.format(account=config.account)
    lines = [
        "SchemaVersion: '1.0'",
        "SageMaker:",
        "  PythonSDK:",
        "    Modules:",
        "      TelemetryOptOut: true",
        "      Session:",
        f"        DefaultS3Bucket: sagemaker-{config.region}-{config.account}",
    ]
    for section, member in _ROLES:
        lines += [f"  {section}:", f"    {member}: {role}"]
    path = config.data / "sagemaker-config.yaml"
    config.data.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
