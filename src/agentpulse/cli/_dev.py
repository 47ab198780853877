"""`agentpulse dev`: the local server in the foreground, alone or with a command to record.

The command gets the signals sent to this process, and ends as it would by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, cast

from agentpulse_exporter._delivery.endpoint import Endpoint, key_file, read_key
from agentpulse_exporter._delivery.http import NoAnswerError, Transport

from agentpulse._output import dollars, fail, notify, whole
from agentpulse.cli._run import command_of, not_started, path_with
from agentpulse.server import DatabaseError, LocalServer, PortError, _autostart
from agentpulse.server._app import SERVICE
from agentpulse.server._local import ADDRESS, default_database
from agentpulse.server._requests import opening_path
from agentpulse.server._storage import MEMORY

PORT = 4319
_FROM_KEYBOARD = ("SIGINT", "SIGQUIT")
_FORWARDED = [
    each for each in signal.Signals if each.name in (*_FROM_KEYBOARD, "SIGTERM", "SIGHUP")
]
_CHECK = "/v1/sessions?since=1e11"
"""It needs the key, and lists nothing."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.usage = "agentpulse dev [--port PORT] [--database PATH] [--exit] [-- COMMAND ...]"
    parser.description = (
        "Runs the local server, which shows the calls of programs on this machine, until Ctrl-C. "
        "With a COMMAND it also runs that, recording the calls of every Python program in it, and "
        "then prints their totals; the exit status is the command's. A server that runs already "
        "is used, and stays."
    )
    add = parser.add_argument
    add("--port", type=int, default=PORT, help=f"where to listen on {ADDRESS} (default: {PORT})")
    database = 'the file of events (default: in your folder for data); ":memory:" keeps nothing'
    add("--database", type=Path, metavar="PATH", help=database)
    add("--exit", action="store_true", help="stop serving when the command has ended")
    add("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C or the end of the command; the command's status, or 1 for a failure."""
    command = command_of(arguments.command)
    database: Path = arguments.database or default_database()
    try:
        with LocalServer(arguments.port, database) as server:
            if command:
                return _serve_command(command, server, stays=not arguments.exit)
            _serve_until_end(lambda: _introduce(server, database))
            return 0
    except PortError as error:
        return _join_server(arguments.port, command, error)
    except DatabaseError as error:
        return fail(str(error))


def _join_server(port: int, command: list[str], error: PortError) -> int:
    """Uses the server that has the port, if it is one of this user's."""
    url = f"http://{ADDRESS}:{port}"
    if _get(port, "/v1/health", seconds=1.0).get("service") != SERVICE:
        return fail(f"{error} Choose another by --port.")
    key = _usable_key(port)
    if key is None:
        return fail(
            f"An AgentPulse server whose key you don't have runs already at {url}. "
            "Choose another port by --port, or set AGENTPULSE_API_KEY to its key."
        )
    address = url + opening_path(key)
    if not command:
        return fail(
            f"An AgentPulse server runs already at {url}. To see it, open {address} in a "
            "browser. For another one, choose another port by --port."
        )
    status, signals = _record(command, port, key)
    if signals is not None:
        notify(f"To see more, open {address} in a browser.")
    return status


def _usable_key(port: int) -> str | None:
    """The key that the local server on the port takes, as far as this user has it."""
    known = (read_key(key_file(port)), os.environ.get("AGENTPULSE_API_KEY", "").strip())
    return next((key for key in known if key and "sessions" in _get(port, _CHECK, key)), None)


def _get(port: int, path: str, key: str = "", seconds: float = 10.0) -> Mapping[str, Any]:
    """The JSON at a path of the local server; nothing where it has none for us."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with closing(Transport(Endpoint("http", ADDRESS, port, ""))) as transport:
            answer = transport.request(path, headers, seconds=seconds)
        found: object = json.loads(answer.body)
    except (NoAnswerError, ValueError):
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _serve_command(command: list[str], server: LocalServer, *, stays: bool) -> int:
    status, signals = _record(command, server.port, server.key)
    # Ctrl-C was meant for the command; after other signals nobody is there to look at the page.
    if stays and signals is not None and signals <= {signal.SIGINT}:
        address = server.browser_address()
        _serve_until_end(lambda: notify(f"To see more, open {address}, until Ctrl-C."))
    return status


def _introduce(server: LocalServer, database: Path) -> None:
    kept = "in memory, until the end" if str(database) == MEMORY else f"in {database}"
    key = (
        "Programs of yours find its key by themselves. Others, in a container for example,\n"
        f"need as AGENTPULSE_API_KEY what is in {server.key_file}"
        if server.key_file
        else f"Programs need AGENTPULSE_API_KEY={server.key}, which can't be written to a file."
    )
    print(
        f"AgentPulse is listening at {server.url}\n"
        f"To see it, open {server.browser_address()} in a browser.\n"
        f"Events are kept {kept}.\n\n"
        "To see the calls of a program there, run it, in another terminal, by\n"
        f"  agentpulse dev --port {server.port} -- python agent.py\n"
        "or, where it calls agentpulse.init() itself, by\n"
        f"  AGENTPULSE_ENDPOINT={server.url} python agent.py\n\n"
        f"{key}\n\nCtrl-C stops the server.",
        flush=True,
    )


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


def _record(command: list[str], port: int, key: str) -> tuple[int, set[int] | None]:
    """Runs the command to its end, on our own streams, and prints the totals of its calls.

    Signals that would end us go to the command instead, which may handle them in its own way. For
    the main thread.

    Returns:
        The exit status, as shells have it, and the signals that we got; None if it didn't run.
    """
    began = time.time()
    try:
        process = subprocess.Popen(command, env=environment(port, key))  # noqa: S603  # it is the user's own
    except OSError as error:
        return not_started(command, error), None
    received: set[int] = set()

    def forward(number: int, _frame: FrameType | None) -> None:
        received.add(number)
        # Ctrl-C reaches every program of the terminal's foreground, the command too.
        if signal.Signals(number).name not in _FROM_KEYBOARD or not _has_keyboard():
            process.send_signal(number)

    before = {
        number: signal.signal(number, forward)
        for number in _FORWARDED
        # Signals that we inherited as ignored (from nohup, say) the command inherits as ignored.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    status = process.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    notify(_totals(_get(port, f"/v1/stats?since={began!r}", key).get("cost")))
    # The status of a killed command is 128 and the number of the signal.
    return 128 - status if status < 0 else status, received


def environment(port: int, key: str) -> dict[str, str]:
    """The variables under which a program is recorded, and sends its events to the server."""
    return {
        **os.environ,
        "AGENTPULSE_ENDPOINT": f"http://{ADDRESS}:{port}",
        "AGENTPULSE_API_KEY": key,
        "PYTHONPATH": path_with(Path(_autostart.__file__).parent),
    }


def _has_keyboard() -> bool:
    """Whether we run in the foreground of a terminal."""
    if os.name != "posix":
        return True
    try:
        with Path("/dev/tty").open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _totals(sums: Mapping[str, Any] | None) -> str:
    if sums is None:
        return "The server has no answer for the calls that it recorded."
    if not sums["calls"]:
        return "No call was recorded. Does the Python of your program have agentpulse-sdk?"
    cost = "cost unknown" if sums["usd"] is None else dollars(sums["usd"])
    if sums["unpriced"] and sums["usd"] is not None:
        cost += f" and {_counted(sums['unpriced'], 'call')} of unknown cost"
    errors = f", {_counted(sums['errors'], 'error')}" if sums["errors"] else ""
    used = _counted(sums["tokens"], "token")
    return f"{_counted(sums['calls'], 'call')} recorded: {used}, {cost}{errors}."


def _counted(count: int, noun: str) -> str:
    return f"{whole(count)} {noun}{'' if count == 1 else 's'}"
