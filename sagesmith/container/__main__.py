"""`python -m sagesmith.container train|serve [ALGORITHM]`: a container's entry point, on any folder.

The first line is printed before anything heavy is imported, so that whoever watches the log sees the job begin.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 the user's error, 2 any other failure."""
    options = _parser().parse_args(arguments)
    print(f"Docker entrypoint called with argument(s): {options.command}", flush=True)
    print("Running default environment configuration script", flush=True)
    if options.command == "train":
        from sagesmith.container.train import train

        return train(options.algorithm, options.base)
    from sagesmith.container.serve import serve

    return serve(options.algorithm, options.base, host=options.host, port=options.port, port_file=options.port_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sagesmith.container", description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train on what lies below BASE/input, leave the model in BASE/model")
    serve = commands.add_parser("serve", help="answer /ping and /invocations with the model in BASE/model")
    for command in (train, serve):
        command.add_argument(
            "algorithm",
            nargs="?",
            default=os.environ.get("SAGESMITH_ALGORITHM", ""),
            help="repository name of the algorithm's image, or its own name (default: $SAGESMITH_ALGORITHM)",
        )
        command.add_argument(
            "--base",
            type=Path,
            default=Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")),
            help="the folder that stands for /opt/ml (default: $SAGEMAKER_BASE_DIR, else /opt/ml)",
        )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 in a container")
    serve.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"),
        help="port to listen on; 0 takes a free one (default: $SAGEMAKER_BIND_TO_PORT, else 8080)",
    )
    serve.add_argument("--port-file", type=Path, help="file to write the port to, once the server listens")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; a port is a whole number from 0 to 65535")
    return int(text)


def _end(status: int) -> None:
    """Ends the process; at once after a failure, or where torch is: the threads of xgboost, MPI and gloo may tear down
    with a crash that would hide the status."""
    if status or "torch" in sys.modules:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _end(main())
