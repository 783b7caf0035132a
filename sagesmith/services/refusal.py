"""Saying no by name: members that AWS has and we do not are refused, never accepted and ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagesmith.core.operation import validation_error


def refuse_unbuilt(request: Mapping[str, Any], unbuilt: Mapping[str, str], where: str = "") -> None:
    """Refuses a request that uses what is not built.

    Args:
        request: a structure of the request.
        unbuilt: member → what it asks for, in words.
        where: the path of the structure, e.g. `ProductionVariants[0]`.

    Raises:
        ApiError: ValidationException naming the member.
    """
    for member, meaning in unbuilt.items():
        if request.get(member):
            path = f"{where}.{member}" if where else member
            raise validation_error(f"{path} asks for {meaning}, which is not implemented by sagesmith.")
