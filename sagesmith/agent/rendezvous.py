"""Hosts of a gang wait for each other here, and learn where the first of them is reached."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket

from sagesmith.agent.connection import Server
from sagesmith.agent.failures import Stopped
from sagesmith.agent.staging_out import read_json
from sagesmith.contract import AgentPaper
from sagesmith.core.names import S3Uri

LOOK = 0.2  # seconds between looks for hosts that are not ready yet


def meet(paper: AgentPaper, server: Server) -> dict[str, str]:
    """Waits until every host has staged its data in; returns the variables that tell the job of the others.

    SAGESMITH_HOSTS is a JSON map of host to address, SAGESMITH_RENDEZVOUS `address:port` of a port on the first host
    that was free a moment ago, SAGESMITH_GANG_TOKEN a secret that only this gang knows. {} for a single host.

    Raises:
        Stopped: asked to stop while waiting.
    """
    hosts = sorted(paper["hosts"])
    if len(hosts) == 1:
        return {}
    area = S3Uri.parse(paper["reports"])
    mine = {"address": os.environ.get("SAGESMITH_HOST_ADDRESS", "127.0.0.1"), "port": free_port()}
    place = area.join(f"{paper['host']}-ready.json")
    server.call("s3", "put_object", Bucket=place.bucket, Key=place.key, Body=json.dumps(mine).encode())
    ready = {paper["host"]: mine}
    while missing := [host for host in hosts if host not in ready]:
        for host in missing:
            if (theirs := read_json(server, area.join(f"{host}-ready.json"))) is not None:
                ready[host] = theirs
        if len(ready) < len(hosts) and server.stopping.wait(LOOK):
            raise Stopped
    first = ready[hosts[0]]
    secret = hmac.new(paper["secret_key"].encode(), f"gang {paper['run']}".encode(), hashlib.sha256)
    return {
        "SAGESMITH_HOSTS": json.dumps({host: ready[host]["address"] for host in hosts}),
        "SAGESMITH_RENDEZVOUS": f"{first['address']}:{first['port']}",
        "SAGESMITH_GANG_TOKEN": secret.hexdigest(),
    }


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
