"""Tags of objects."""

from __future__ import annotations

from typing import Any

from sagesmith.core.operation import Context
from sagesmith.services.s3.headers import checked_tags
from sagesmith.services.s3.room import Request, s3


@s3
def get_object_tagging(request: Request, ctx: Context) -> dict[str, Any]:
    tags = ctx.world.objects.head(request["Bucket"], request["Key"]).tags
    return {"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]}


@s3
def put_object_tagging(request: Request, ctx: Context) -> dict[str, Any]:
    tags = checked_tags([(tag["Key"], tag["Value"]) for tag in request["Tagging"]["TagSet"]])
    ctx.world.objects.tag(request["Bucket"], request["Key"], tags)
    return {}


@s3
def delete_object_tagging(request: Request, ctx: Context) -> dict[str, Any]:
    ctx.world.objects.tag(request["Bucket"], request["Key"], {})
    return {}
