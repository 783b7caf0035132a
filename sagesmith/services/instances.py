"""Instance types: how much of the host a job of each may use."""

from __future__ import annotations

import os
import re

import psutil

_SIZE = re.compile(r"ml\.(?P<family>[a-z])[a-z0-9-]*\.(?P<times>\d*)(?P<size>nano|micro|small|medium|large|xlarge)")
_VCPUS = {"nano": 1, "micro": 1, "small": 1, "medium": 2, "large": 2, "xlarge": 4}  # of sizes without a number
_GIB_PER_VCPU = {"c": 2, "r": 8, "x": 16}  # by the family's first letter; 4 for all others
_GIB = 2**30


def cores_of(instance_type: str) -> int:
    """The processors that one host of this type may use: its vCPUs, or all of ours where it has more.

    A type whose size we cannot read counts as the whole host.
    """
    ours = os.cpu_count() or 1
    match = _SIZE.match(instance_type)
    if match is None:
        return ours
    return min(ours, _VCPUS[match["size"]] * int(match["times"] or 1))


def memory_of(instance_type: str) -> int:
    """Bytes of memory that belong to the processors of `cores_of`, at the type's own proportion."""
    match = _SIZE.match(instance_type)
    per_core = _GIB_PER_VCPU.get(match["family"], 4) if match else 4
    return min(int(psutil.virtual_memory().total), cores_of(instance_type) * per_core * _GIB)
