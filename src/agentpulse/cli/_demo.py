"""`agentpulse demo`: an example agent on a fake provider, and what was recorded of it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from agentpulse.demo._run import run
from agentpulse.server import PortError

if TYPE_CHECKING:
    from agentpulse.cli import Subparsers

PORT = 4319


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "demo",
        help="run an example agent against fake providers and show what was recorded",
        description="Runs an example agent that uses the real openai and anthropic clients, a fake "
        "provider for it and the local server, all on this machine, and shows what was recorded. "
        "It needs no key and no network, and keeps nothing.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="exit after one run, with 0 only if every call was accepted by the server",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        help=f"of the server (default: {PORT}; any free one with --once)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    once: bool = arguments.once
    port = arguments.port if arguments.port is not None else 0 if once else PORT
    try:
        return run(port=port, once=once)
    except PortError as error:
        print(f"{error} Choose another by --port.", file=sys.stderr)
        return 1
