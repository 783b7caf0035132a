"""How the commands reach the running server: the environment's AWS settings, else the local data folder."""

from __future__ import annotations

import os
from typing import Any

import boto3

from sagesmith.cli import fail
from sagesmith.core.config import Config
from sagesmith.gateway.keys import Keys


def client(service: str, config: Config) -> Any:
    """A boto3 client for the server that `AWS_ENDPOINT_URL` names, else for the one that runs on `config.data`.

    Raises:
        click.ClickException: no server has run there.
    """
    if os.environ.get("AWS_ENDPOINT_URL"):
        return boto3.client(service)
    key = Keys(config.keys_file).first
    return boto3.client(
        service,
        endpoint_url=address(config),
        region_name=config.region,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
    )


def address(config: Config) -> str:
    """The URL that the server wrote when it started."""
    try:
        return config.address_file.read_text("utf-8").strip()
    except FileNotFoundError:
        raise fail(f"no server has run on {config.data}: start one with `sagesmith up`") from None
