"""`LocalServer`: the local server, running in a thread of this process."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, cast

import uvicorn
from agentpulse_exporter._delivery.endpoint import Endpoint
from agentpulse_exporter._delivery.http import NoAnswerError, Transport
from agentpulse_exporter._delivery.local_key import data_folder, key_file, read_key
from starlette.applications import Starlette

from agentpulse.server._app import SERVICE, Api, make_app
from agentpulse.server._protocol import LOCAL, Plan
from agentpulse.server._requests import Access, new_key, opening_path
from agentpulse.server._storage import MEMORY, Storage

# What the local server keeps in the user's folder for data: its events, and its key as it runs.


def default_database(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The database in the user's folder for data, by the rules of the platform."""
    return data_folder(environ, platform) / "agentpulse.sqlite3"


def publish_key(port: int, key: str) -> Path:
    """Leaves a key where programs of this user, and nobody else, find it by the port.

    Raises:
        OSError: The folder can't be written.
        RuntimeError: The user has no home.
    """
    file = key_file(port)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        file.parent.chmod(0o700)
    # A file of its own, which then takes the name: what a dead server left there, and whatever else
    # has the name, is not written to, and nobody ever reads half a key.
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:  # noqa: PTH123  # a path can't be opened with a mode of the file
            writing.write(f"{key}\n")
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    return file


def withdraw_key(file: Path, key: str) -> None:
    """Takes the key away again, unless another server has put its own there."""
    if read_key(file) == key:
        with suppress(OSError):
            file.unlink()


ADDRESS = "127.0.0.1"
"""The only address the server ever listens on."""

_CONNECTIONS = 256
_PORTS = 2**16
_STOPPING = 2
"""Seconds that a request under way may take when the server stops."""


class PortError(Exception):
    """The port can't be had; the message says why."""


class LocalServer:
    """A server that speaks the ingest protocol on 127.0.0.1, and keeps what it accepts.

    Runs from when it is entered until it is left, and may be entered again. While it runs, programs
    of the same user find its key by its port.
    """

    def __init__(
        self,
        port: int = 0,
        database: Path | str = MEMORY,
        key: str | None = None,
        *,
        plan: Plan = LOCAL,
    ) -> None:
        """Listens nowhere yet.

        Args:
            port: Where to listen; 0 takes a free one.
            database: A file, which is made if it isn't there, or ":memory:".
            key: The only key that is taken; by default another one each time it is entered.
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
            PortError: Somebody else listens on the port, or it isn't for everybody.
            DatabaseError: The database can't be used.
        """
        if self._running is not None:
            message = "The server is running already."
            raise RuntimeError(message)
        # The port first: a server that can't have it doesn't touch the database.
        listening = _listen(self._port)
        try:
            storage = Storage(self._database)
        except BaseException:
            listening.close()
            raise
        self._running = _Running(listening, storage, self._key or new_key(), self._plan)
        self._running.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

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
        """What was accepted, in the order in which it came: each event as sent, and its `agent`."""
        return list(self._now().storage.arrivals(kind))

    def _now(self) -> _Running:
        if self._running is None:
            message = "The server is not running: use it inside `with LocalServer() as server:`."
            raise RuntimeError(message)
        return self._running


class _Server(uvicorn.Server):
    """Tells when it takes requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_settled.set()


class _Running:
    """What there is while the server runs."""

    def __init__(self, listening: socket.socket, storage: Storage, key: str, plan: Plan) -> None:
        self.port: int = listening.getsockname()[1]
        self.storage = storage
        self.key = key
        # Before anything is answered: who is refused for the key of an earlier run looks it up.
        self.key_file = _published(self.port, key)
        access = Access(key, self.port, _where(self.key_file))
        self._listening = listening
        self._server = _Server(_config(make_app(Api(storage, access, plan))))
        self._thread = threading.Thread(target=self._serve, name="agentpulse-server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._server.is_settled.wait()
        if not self._server.started:
            self.stop()
            message = "The local server could not start."
            raise RuntimeError(message)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listening.close()
        self.storage.close()
        # When nobody is answered any more: without a key, events would be refused, not kept.
        if self.key_file is not None:
            withdraw_key(self.key_file, self.key)

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listening])
        finally:
            self._server.is_settled.set()


def _published(port: int, key: str) -> Path | None:
    try:
        return publish_key(port, key)
    except (OSError, RuntimeError):
        return None


def _where(key_file: Path | None) -> str:
    return "that was printed as it started" if key_file is None else f"in {key_file}"


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
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


def _listen(port: int) -> socket.socket:
    if not 0 <= port < _PORTS:
        message = f"Port {port} is no port; expected a number from 0 (any free one) to 65535."
        raise PortError(message)
    # asyncio looks at the protocol by name before it sets TCP_NODELAY. Without that, head and body
    # of an answer, which are two writes, wait 40 ms for each other on a kept-alive connection.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # Else the port of a server that just ended is taken for a minute. Elsewhere the option
            # lets two listen on one port.
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
    """What calls came to."""

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
            answer = transport.get(path, headers, seconds=seconds, is_whole=True)
        found: object = json.loads(answer.body)
    except (NoAnswerError, ValueError):
        return {}
    return cast("Mapping[str, object]", found) if isinstance(found, dict) else {}
