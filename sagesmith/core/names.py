"""Names: ARNs, S3 URIs, image URIs, run ids."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sagesmith.core.operation import Context

_ARN = re.compile(r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]*):([0-9]{12})?:(.+)", re.DOTALL)
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


def partition(region: str) -> str:
    """`aws`, `aws-cn` or `aws-us-gov`."""
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def arn(region: str, account: str, kind: str, name: str, service: str = "sagemaker") -> str:
    """`arn:aws:sagemaker:<region>:<account>:<kind>/<name>`, kind as AWS writes it (`training-job`)."""
    return f"arn:{partition(region)}:{service}:{region}:{account}:{kind}/{name}"


class Arn(NamedTuple):
    """An ARN of the form `arn:<partition>:<service>:<region>:<account>:<kind>/<name>`, taken apart."""

    service: str
    region: str
    account: str
    kind: str  # "training-job"
    name: str

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Raises ValueError for text that is no such ARN."""
        match = _ARN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not an ARN: expected arn:<partition>:<service>:<region>:<account>:<resource>"
            )
        kind, _, name = match[5].partition("/")
        return cls(match[2], match[3], match[4] or "", kind, name)


def name_of(arn_or_name: str) -> str:
    """The last part of an ARN, or the name itself."""
    match = _ARN.fullmatch(arn_or_name)
    return match[5].split("/", 1)[-1] if match else arn_or_name


class S3Uri(NamedTuple):
    """`s3://bucket/key`; the key may be empty or end in a slash."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Uri:
        """Splits an S3 URI, leaving every byte of the key as it is.

        Raises:
            ValueError: not an S3 URI, or one without a bucket.
        """
        if not uri.startswith("s3://"):
            raise ValueError(f"{uri!r} is not an S3 URI: expected s3://bucket/key")
        bucket, _, key = uri[5:].partition("/")
        if not bucket:
            raise ValueError(f"{uri!r} names no bucket: expected s3://bucket/key")
        return cls(bucket, key)

    def join(self, *parts: str) -> S3Uri:
        """The URI of `parts` below this one, with exactly one slash between them."""
        pieces = [self.key.rstrip("/"), *parts] if self.key else list(parts)
        return S3Uri(self.bucket, "/".join(pieces))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class Image(NamedTuple):
    """A container image URI, taken apart. Algorithms are found by `repository`; account and region do not matter."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, uri: str) -> Image:
        """Splits `registry/repository:tag[@digest]`; tag is "" when absent."""
        uri = uri.partition("@")[0]
        registry, slash, rest = uri.rpartition("/")
        if not slash:
            registry = ""
        repository, _, tag = rest.partition(":")
        return cls(urlsplit(f"//{registry}").netloc if registry else "", repository, tag)


def run_id(kind: str) -> str:
    """A fresh id for one gang: `training-<16 hex>`; safe as a file name and as an S3 key."""
    return f"{kind}-{secrets.token_hex(8)}"


def runs_bucket(ctx: Context) -> str:
    """The bucket in which the agents of an account and region leave their reports."""
    return f"sagesmith-{ctx.region}-{ctx.account}-runs"
