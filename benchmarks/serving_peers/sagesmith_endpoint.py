"""The same model behind `InvokeEndpoint` of a whole sagesmith server: `sagesmith_endpoint.py PORT MODEL_TAR READY`.

Writes to READY, as JSON, the headers of one signed request, which all requests of a run can share because they are
alike: the server checks the signature of each. It is good for 15 minutes. Ends on SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagesmith.testing.server import RunningServer, running_server

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"
ENDPOINT = "rows"


def deploy(server: RunningServer, archive: Path) -> None:
    """Uploads the model and waits until the endpoint is in service."""
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket="models")
    s3.upload_file(str(archive), "models", "model.tar.gz")
    container = {"Image": IMAGE, "ModelDataUrl": "s3://models/model.tar.gz"}
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_model(ModelName="m", PrimaryContainer=container)
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="c")
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=ENDPOINT, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def signed(server: RunningServer, body: bytes) -> dict[str, str]:
    """The headers that botocore's own signer gives an InvokeEndpoint with this body."""
    url = f"{server.address}/endpoints/{ENDPOINT}/invocations"
    request = AWSRequest("POST", url, data=body, headers={"Content-Type": "text/csv"})
    SigV4Auth(Credentials(server.key.id, server.key.secret), "sagemaker", server.config.region).add_auth(request)
    return dict(request.headers.items())


def main(port: int, archive: Path, ready: Path) -> None:
    """Serves until SIGTERM."""
    with tempfile.TemporaryDirectory(dir=ready.parent) as folder, running_server(Path(folder), port=port) as server:
        deploy(server, archive)
        partial = ready.with_suffix(".partial")
        partial.write_text(json.dumps(signed(server, os.environ["BODY"].encode())))
        partial.replace(ready)
        asked = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        asked.wait()
        server.client("sagemaker").delete_endpoint(EndpointName=ENDPOINT)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
