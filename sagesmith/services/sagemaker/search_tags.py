"""Tags of resources, by ARN: AddTags, ListTags, DeleteTags. They may change even after a job has ended."""

from __future__ import annotations

import json
from typing import Any

from sagesmith.core.names import Arn
from sagesmith.core.operation import ApiError, Context, Service, validation_error
from sagesmith.store import listing
from sagesmith.store.resources import KINDS
from sagesmith.store.tags import Tags

sagemaker = Service("sagemaker")

DEFAULT_PAGE = 50  # ListTags returns no fewer unless there are no more


@sagemaker.operation
def add_tags(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Sets tags, overwriting those of the same key; answers with all that the resource has now."""
    arn = _existing(request["ResourceArn"], ctx)
    with ctx.world.database.transaction():
        Tags().add(ctx, arn, request["Tags"])
        return {"Tags": list(Tags().list(ctx, arn))}


@sagemaker.operation
def list_tags(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Tags by key, in pages."""
    arn = _existing(request["ResourceArn"], ctx)
    tags = list(Tags().list(ctx, arn))
    secret, question = ctx.world.database.secret, json.dumps(["ListTags", arn])
    if token := request.get("NextToken"):
        last = listing.read_token(token, question, secret)[0]
        tags = [tag for tag in tags if tag["Key"] > last]
    size = request.get("MaxResults", DEFAULT_PAGE)
    answer: dict[str, Any] = {"Tags": tags[:size]}
    if len(tags) > size:
        answer["NextToken"] = listing.write_token([tags[size - 1]["Key"]], question, secret)
    return answer


@sagemaker.operation
def delete_tags(request: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Removes tags by key; absent ones are no error."""
    Tags().remove(ctx, _existing(request["ResourceArn"], ctx), request["TagKeys"])
    return {}


def _existing(text: str, ctx: Context) -> str:
    """The ARN of a resource that is there.

    Raises:
        ApiError: ValidationException, for an ARN that is malformed or names nothing in this account and region.
    """
    try:
        arn = Arn.parse(text)
    except ValueError as error:
        raise validation_error(str(error)) from None
    for documents in KINDS.values():
        if documents.arn == arn.kind:
            found = documents.find(ctx, text)
            if found is not None:
                return found.arn
    raise _missing(text)


def _missing(arn: str) -> ApiError:
    return validation_error(f'Requested resource not found. Could not find resource "{arn}".')
