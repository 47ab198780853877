"""`LocalServer`: the local server, running in a thread of this process.

In the user's folder for data are its events, and its key while it runs.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict, cast

import uvicorn
from agentpulse_exporter._delivery.endpoint import Endpoint, data_folder, key_file, read_key
from agentpulse_exporter._delivery.http import NoAnswerError, Transport
from starlette.applications import Starlette

from agentpulse.server._app import SERVICE, Api, make_app
from agentpulse.server._protocol import LOCAL, Plan
from agentpulse.server._requests import Access, new_key, opening_path
from agentpulse.server._storage import MEMORY, Storage

ADDRESS = "127.0.0.1"
"""The only address the server ever listens on."""

_CONNECTIONS = 256
_PORTS = 2**16
_STOPPING = 2
"""Seconds that a request under way may take when the server stops."""


class PortError(Exception):
    """The port can't be had; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A server between its start and its end."""

    port: int
    key: str
    key_file: Path | None
    storage: Storage
    stack: ExitStack


class LocalServer:
    """A server that speaks the ingest protocol on 127.0.0.1, and keeps the events it accepts.

    Runs inside `with`, and may be entered again. While it runs, programs of the same user find its
    key by its port.
    """

    def __init__(
        self,
        port: int = 0,
        database: Path | str = MEMORY,
        key: str | None = None,
        *,
        plan: Plan = LOCAL,
    ) -> None:
        """Does not listen yet.

        Args:
            port: Where to listen; 0 takes a free one.
            database: A file, which is made if it isn't there, or ":memory:".
            key: The only key that is accepted; by default another one each time it is entered.
            plan: The hosted plan whose limits hold; by default those of both, without a daily one.
        """
        self._port = port
        self._database = database
        self._key = key
        self._plan = plan
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        """Starts it.

        Raises:
            PortError: Another program listens on the port, or it isn't for everybody.
            DatabaseError: The database can't be used.
        """
        if self._running is not None:
            message = "The server is running already."
            raise RuntimeError(message)
        with ExitStack() as stack:
            # The port first: a server that can't have it doesn't touch the database.
            listening = stack.enter_context(_listen(self._port))
            storage = Storage(self._database)
            stack.callback(storage.close)
            port, key = listening.getsockname()[1], self._key or new_key()
            # Before anything is answered, because whoever is refused for the key of an earlier run
            # reads it; and until nothing is: without a key, events would be refused, not kept.
            file = _publish_key(port, key)
            stack.callback(_withdraw_key, file, key)
            where = "that was printed as it started" if file is None else f"in {file}"
            app = make_app(Api(storage, Access(key, port, where), self._plan))
            _serve(stack, app, listening)
            self._running = _Running(port, key, file, storage, stack.pop_all())
        return self

    def __exit__(self, *_error: object) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stack.close()

    @property
    def url(self) -> str:
        """The address, for example `http://127.0.0.1:4319`."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._now().port

    @property
    def key(self) -> str:
        """The key that requests need: `Authorization: Bearer ap_…`."""
        return self._now().key

    @property
    def key_file(self) -> Path | None:
        """Where programs of this user find the key; None where it could not be written."""
        return self._now().key_file

    def browser_address(self) -> str:
        """An address, another one each time, that opens the page in one browser, once."""
        return self.url + opening_path(self.key)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The accepted events in the order of arrival: each as it was sent, and its `agent`."""
        return self._now().storage.arrivals(kind)

    def _now(self) -> _Running:
        if self._running is None:
            message = "The server is not running: use it inside `with LocalServer() as server:`."
            raise RuntimeError(message)
        return self._running


class _Server(uvicorn.Server):
    """Sets an event once it serves, or has failed to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_settled.set()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.is_settled.set()


def _serve(stack: ExitStack, app: Starlette, listening: socket.socket) -> None:
    """Serves in a thread until the stack is closed."""
    config = uvicorn.Config(
        app,
        # One way to serve, whatever else is installed.
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        # The logging of the process is its owner's.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_STOPPING,
    )
    server = _Server(config)
    thread = threading.Thread(
        target=server.run, args=([listening],), name="agentpulse-server", daemon=True
    )
    thread.start()
    stack.callback(thread.join)
    stack.callback(setattr, server, "should_exit", True)
    server.is_settled.wait()
    if not server.started:
        message = "The local server could not start."
        raise RuntimeError(message)


def _listen(port: int) -> socket.socket:
    if not 0 <= port < _PORTS:
        message = f"Port {port} is no port; expected a number from 0 (any free one) to 65535."
        raise PortError(message)
    # asyncio looks at the protocol by name before it sets TCP_NODELAY. Without that, head and body
    # of an answer, which are two writes, wait 40 ms for each other on a kept-alive connection.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # Else the port of a server that just ended stays in use for a minute. On Windows the
            # option lets two listen on one port.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        is_taken = error.errno == errno.EADDRINUSE
        reason = "is in use by another program" if is_taken else f"can't be used: {error.strerror}"
        message = f"Port {port} {reason}."
        raise PortError(message) from error
    return listening


def default_database(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The database in the user's folder for data, by the rules of the platform."""
    return data_folder(environ, platform) / "agentpulse.sqlite3"


def _publish_key(port: int, key: str) -> Path | None:
    """Writes a key where programs of this user, and nobody else, find it by the port.

    None where the folder can't be written, or the user has no home.
    """
    try:
        file = key_file(port)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):
            file.parent.chmod(0o700)
        # A file of its own, which then takes the name: the file of a dead server, or whatever else
        # has the name, is not written to, and nobody ever reads half a key.
        new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:  # noqa: PTH123  # a path can't be opened with a mode of the file
                writing.write(f"{key}\n")
            new.replace(file)
        except OSError:
            new.unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError):
        return None
    return file


def _withdraw_key(file: Path | None, key: str) -> None:
    """Takes the key away again, unless another server has put its own there."""
    if file is not None and read_key(file) == key:
        with suppress(OSError):
            file.unlink()


# Asks a local server that runs, in this process or in another.

_SECONDS = 10.0
_SECONDS_TO_GREET = 1.0
_CHECK = "/v1/sessions?since=1e11"
"""It needs the key, and lists nothing."""


def is_ours(port: int) -> bool:
    """Whether what listens on the port is a local server of AgentPulse."""
    return _get(port, "/v1/health", _SECONDS_TO_GREET).get("service") == SERVICE


def usable_key(port: int) -> str | None:
    """The key that the local server on the port takes, as far as this user has it."""
    try:
        known = [read_key(key_file(port))]
    except RuntimeError:  # the user has no home
        known = []
    known.append(os.environ.get("AGENTPULSE_API_KEY", "").strip())
    taken = (key for key in known if key and "sessions" in _get(port, _CHECK, _SECONDS, key))
    return next(taken, None)


class Sums(TypedDict):
    """The totals of calls."""

    usd: float | None
    tokens: int
    calls: int
    errors: int
    unpriced: int


def calls_since(port: int, key: str, since: float) -> Sums | None:
    """The sums of the calls since a time in seconds since 1970; None where it doesn't say."""
    sums = _get(port, f"/v1/stats?since={since!r}", _SECONDS, key).get("cost")
    return cast("Sums", sums) if isinstance(sums, dict) else None


def _get(port: int, path: str, seconds: float, key: str | None = None) -> Mapping[str, object]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with closing(Transport(Endpoint("http", ADDRESS, port, ""))) as transport:
            answer = transport.request(path, headers, seconds=seconds)
        found: object = json.loads(answer.body)
    except (NoAnswerError, ValueError):
        return {}
    return cast("Mapping[str, object]", found) if isinstance(found, dict) else {}
