"""`agentpulse demo`: an example agent on a fake provider, and its recording."""

from __future__ import annotations

import argparse

from agentpulse._output import fail
from agentpulse.demo._run import run as run_demo
from agentpulse.server import PortError

PORT = 4319


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Runs an example agent that uses the real openai and anthropic clients, a fake "
        "provider for it and the local server, all on this machine, and shows what was recorded. "
        "It needs no key and no network, and keeps nothing."
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="exit after one run, with 0 only if every call was accepted by the server",
    )
    parser.add_argument(
        "--port", type=int, help=f"of the server (default: {PORT}; any free one with --once)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs it; 1 if the port can't be had, or a call was not accepted."""
    once: bool = arguments.once
    port = arguments.port if arguments.port is not None else 0 if once else PORT
    try:
        return run_demo(port=port, once=once)
    except PortError as error:
        return fail(f"{error} Choose another by --port.")
