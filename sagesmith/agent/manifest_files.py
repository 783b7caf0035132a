"""Augmented manifests in File mode: their objects as files, and beside these the manifest, with paths in place of URIs.

SageMaker reads augmented manifests in Pipe mode alone; this is sagesmith's addition, since files can be read in any
order. S3Uri `s3://b/train.manifest` becomes, in the channel's folder, `train.manifest` and a file `<bucket>/<key>` for
each object.
"""

from __future__ import annotations

import json

from sagesmith.agent.channels import Channel, Source, check_paths, share
from sagesmith.agent.connection import Server
from sagesmith.agent.pipes import augmented_records
from sagesmith.contract import AgentPaper

SUFFIX = ".manifest"


def objects_and_manifest(channel: Channel, server: Server, paper: AgentPaper) -> tuple[list[Source], tuple[str, bytes]]:
    """What is to be downloaded, and the manifest of this host's lines: its name and its text.

    A line holds AttributeNames in their order: the path of the object for those that end in `-ref`, else the value as
    the text that a pipe would give.

    Raises:
        JobFailed: a line that cannot be used, or an object whose key would leave the folder.
    """
    name = channel.uri.key.rsplit("/", 1)[-1].removesuffix(SUFFIX) + SUFFIX
    found: dict[str, Source] = {}
    lines = []
    for record in share(channel, augmented_records(channel, server), paper["host"], paper["hosts"]):
        line = {}
        for attribute, value in zip(channel.attributes, record, strict=True):
            if isinstance(value, Source):
                path = f"{value.uri.bucket}/{value.uri.key}"
                found[path] = value._replace(path=path)
                line[attribute] = path
            else:
                line[attribute] = value.decode()
        lines.append(json.dumps(line) + "\n")
    check_paths(channel, [Source(channel.uri, name), *found.values()])
    return list(found.values()), (name, "".join(lines).encode())
