"""Buckets: create, head, list, locate, delete."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from sagesmith.core.operation import ApiError, Context
from sagesmith.services.s3.multipart import uploads_of
from sagesmith.services.s3.room import Request, bucket_of, invalid, owner, s3
from sagesmith.store.objects import BucketExists, BucketInfo, BucketNotEmpty

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_RUNS = re.compile(r"sagesmith-[a-z0-9-]+-[0-9]{12}-runs")  # the agents' reports; an ordinary bucket, but not listed
_HOME = "us-east-1"  # the region whose buckets have no LocationConstraint
_MOST_BUCKETS = 10_000


def valid_name(name: str) -> bool:
    """Whether AWS would take the name for a general purpose bucket."""
    if not _NAME.fullmatch(name) or ".." in name:
        return False
    if name.startswith(_RESERVED_STARTS) or name.endswith(_RESERVED_ENDS):
        return False
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return True
    return False


@s3
def create_bucket(request: Request, ctx: Context) -> dict[str, Any]:
    name = request["Bucket"]
    if not valid_name(name):
        raise ApiError("InvalidBucketName", "The specified bucket is not valid.", fields={"BucketName": name})
    region = _region(request.get("CreateBucketConfiguration") or {}, ctx)
    try:
        ctx.world.objects.create_bucket(name, region)
    except BucketExists:
        if ctx.region != _HOME:
            raise ApiError(
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
                409,
                fields={"BucketName": name},
            ) from None
    return {"Location": f"/{name}"}


def _region(configuration: dict[str, Any], ctx: Context) -> str:
    for member in configuration.keys() & {"Location", "Bucket", "Tags"}:
        if configuration[member]:
            raise ApiError(
                "NotImplemented", f"CreateBucketConfiguration.{member} is not implemented by sagesmith.", 501
            )
    constraint = str(configuration.get("LocationConstraint") or "")
    region = "eu-west-1" if constraint == "EU" else constraint
    if not region and ctx.region == _HOME:
        return _HOME
    if region == _HOME or (ctx.region != _HOME and region != ctx.region):
        raise ApiError(
            "IllegalLocationConstraintException" if region != _HOME else "InvalidLocationConstraint",
            f"The {constraint or 'unspecified'} location constraint is incompatible for the region specific endpoint"
            f" this request was sent to ({ctx.region}).",
        )
    return region


@s3
def head_bucket(request: Request, ctx: Context) -> dict[str, Any]:
    return {"BucketRegion": _region_of(bucket_of(request, ctx), ctx), "AccessPointAlias": False}


@s3
def get_bucket_location(request: Request, ctx: Context) -> dict[str, Any]:
    region = _region_of(bucket_of(request, ctx), ctx)
    return {} if region == _HOME else {"LocationConstraint": region}


@s3
def delete_bucket(request: Request, ctx: Context) -> None:
    try:
        ctx.world.objects.delete_bucket(request["Bucket"])
    except BucketNotEmpty:
        raise ApiError(
            "BucketNotEmpty",
            "The bucket you tried to delete is not empty",
            409,
            fields={"BucketName": request["Bucket"]},
        ) from None
    uploads = uploads_of(ctx)
    for upload in uploads.open_uploads(request["Bucket"]):
        uploads.abort(upload)


@s3
def list_buckets(request: Request, ctx: Context) -> dict[str, Any]:
    prefix, after = request.get("Prefix", ""), request.get("ContinuationToken", "")
    most = request.get("MaxBuckets", _MOST_BUCKETS)
    if not 1 <= most <= _MOST_BUCKETS:
        raise invalid(f"max-buckets must be between 1 and {_MOST_BUCKETS}", "max-buckets", most)
    wanted = request.get("BucketRegion")
    found = [
        info
        for info in ctx.world.objects.buckets()
        if info.name.startswith(prefix) and info.name > after and not _RUNS.fullmatch(info.name)
    ]
    found = [info for info in found if wanted in {None, _region_of(info, ctx)}]
    answer: dict[str, Any] = {
        "Buckets": [
            {"Name": info.name, "CreationDate": info.created, "BucketRegion": _region_of(info, ctx)}
            for info in found[:most]
        ],
        "Owner": owner(ctx),
    }
    if prefix:
        answer["Prefix"] = prefix
    if len(found) > most:
        answer["ContinuationToken"] = found[most - 1].name
    return answer


def _region_of(info: BucketInfo, ctx: Context) -> str:
    """Folders that a user made say no region: they are wherever the server is."""
    return info.region or ctx.world.config.region
