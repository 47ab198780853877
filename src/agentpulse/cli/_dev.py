"""`agentpulse dev`: the local server in the foreground, alone or with a command to record."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agentpulse._formats import dollars, whole
from agentpulse.server import DatabaseError, LocalServer, PortError
from agentpulse.server._child import Ending, run
from agentpulse.server._local import ADDRESS, calls_since, default_database, is_ours, usable_key
from agentpulse.server._requests import opening_path
from agentpulse.server._storage import MEMORY
from agentpulse.server.autostart import environment

if TYPE_CHECKING:
    from agentpulse.cli import Subparsers

PORT = 4319


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command to the tree."""
    parser = subparsers.add_parser(
        "dev",
        usage="agentpulse dev [--port PORT] [--database PATH] [--exit] [-- COMMAND ...]",
        description="Runs the local server, which shows the calls of programs on this machine, "
        "until Ctrl-C. With a COMMAND it also runs that, recording the calls of every Python "
        "program in it, and then says what they came to; the exit status is the command's. A "
        "server that runs already is used, and left running.",
    )
    parser.add_argument(
        "--port", type=_port, default=PORT, help=f"where to listen on {ADDRESS} (default: {PORT})"
    )
    parser.add_argument(
        "--database",
        type=Path,
        metavar="PATH",
        help="the file to keep events in (default: in your folder for data); "
        '":memory:" keeps nothing',
    )
    parser.add_argument(
        "--exit", action="store_true", help="stop serving when the command has ended"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    parser.set_defaults(run=_run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        message = f"{text!r} is no port; expected a number from 0 (any free one) to 65535"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    command: list[str] = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if arguments.exit and not command:
        return _fail("--exit ends the server with a command, and there is none: add -- COMMAND.")
    return _run_server(arguments, command)


def _run_server(arguments: argparse.Namespace, command: list[str]) -> int:
    port: int = arguments.port
    database: Path = arguments.database or default_database()
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.getsignal(number))
        try:
            server = stack.enter_context(LocalServer(port, database))
        except PortError as error:
            return _join_server(port, command, error)
        except DatabaseError as error:
            return _fail(str(error))
        if command:
            return _serve_command(command, server, stays=not arguments.exit)
        _serve_until_end(lambda: _introduce(server, database))
        return 0


def _join_server(port: int, command: list[str], error: PortError) -> int:
    """Uses the server that has the port, if it is one of this user's."""
    if not is_ours(port):
        return _fail(f"{error} Choose another by --port.")
    key = usable_key(port)
    if key is None:
        return _fail(
            f"An AgentPulse server whose key you don't have runs already at {_url(port)}. "
            "Choose another port by --port, or set AGENTPULSE_API_KEY to its key."
        )
    address = _url(port) + opening_path(key)
    if command:
        ending, said = _observed(command, port, key)
        _say(said if ending.problem else f"{said} {address}")
        return ending.status
    return _fail(
        f"An AgentPulse server runs already at {_url(port)}. To see it, open {address} in a "
        "browser. For another one, choose another port by --port."
    )


def _serve_command(command: list[str], server: LocalServer, *, stays: bool) -> int:
    ending, said = _observed(command, server.port, server.key)
    # Ctrl-C was meant for the command; after other signals nobody is there to look at the page.
    if stays and not ending.problem and set(ending.signals) <= {signal.SIGINT}:
        _say(f"{said} {server.browser_address()}")
        _serve_until_end(lambda: _say("The page stays there until Ctrl-C."))
    else:
        _say(said)
    return ending.status


def _introduce(server: LocalServer, database: Path) -> None:
    option = "" if server.port == PORT else f"--port {server.port} "
    kept = "in memory, until the end" if str(database) == MEMORY else f"in {database}"
    if server.key_file is None:
        key = (
            "Its key can't be written to your folder for data, so programs need it as\n"
            f"  AGENTPULSE_API_KEY={server.key}\n\n"
        )
    else:
        key = (
            "Programs of yours find its key by themselves. Others, in a container for example,\n"
            f"need as AGENTPULSE_API_KEY what is in {server.key_file}\n\n"
        )
    print(
        f"AgentPulse is listening at {server.url}\n"
        f"To see it, open {server.browser_address()} in a browser.\n"
        f"Events are kept {kept}.\n\n"
        "To see the calls of a program there, run it, in another terminal, by\n"
        f"  agentpulse dev {option}-- python agent.py\n"
        "or, where it calls agentpulse.init() itself, by\n"
        f"  AGENTPULSE_ENDPOINT={server.url} python agent.py\n\n"
        f"{key}"
        "Ctrl-C stops the server.",
        flush=True,
    )


def _observed(command: list[str], port: int, key: str) -> tuple[Ending, str]:
    """How the command ended, and what there is to say of it."""
    started = time.time()
    ending = run(command, environment(_url(port), key))
    return ending, ending.problem or _in_words(port, key, started)


def _in_words(port: int, key: str, since: float) -> str:
    """What the calls since then came to."""
    sums = calls_since(port, key, since)
    if sums is None:
        return "The server doesn't say what it recorded."
    if not sums["calls"]:
        return (
            "No call was recorded. If there was one: is agentpulse-sdk installed for the Python "
            "that made it?"
        )
    said = [
        f"{_counted(sums['calls'], 'call')} recorded: {_counted(sums['tokens'], 'token')}",
        "cost unknown" if sums["usd"] is None else dollars(sums["usd"]),
    ]
    if sums["unpriced"] and sums["usd"] is not None:
        said[-1] += f" and {_counted(sums['unpriced'], 'call')} of unknown cost"
    if sums["errors"]:
        said.append(_counted(sums["errors"], "error"))
    return ", ".join(said) + "."


def _counted(count: int, noun: str) -> str:
    return f"{whole(count)} {noun}{'' if count == 1 else 's'}"


def _serve_until_end(announce: Callable[[], None]) -> None:
    """Waits for Ctrl-C or SIGTERM; a second one, while the server stops, changes nothing."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        announce()
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def _say(message: str) -> None:
    # Not on stdout, which is the command's.
    print(f"agentpulse: {message}", file=sys.stderr, flush=True)


def _url(port: int) -> str:
    return f"http://{ADDRESS}:{port}"
