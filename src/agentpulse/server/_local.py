"""`LocalServer`: the local server, running in a thread of this process.

In the user's folder for data are its events, and its key while it runs.
"""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Any, NoReturn, Self

import uvicorn
from agentpulse_exporter._delivery.endpoint import data_folder, key_file, read_key
from starlette.types import ASGIApp

from agentpulse.server._app import Api
from agentpulse.server._requests import Access, new_key, opening_path
from agentpulse.server._storage import MEMORY, Storage

ADDRESS = "127.0.0.1"
"""The only address the server ever listens on."""

_CONNECTIONS = 256
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
_STOPPING = 2
"""Seconds that a request under way may take when the server stops."""


class PortError(Exception):
    """The port can't be had; the message gives the reason."""


class LocalServer:
    """A server that speaks the ingest protocol on 127.0.0.1, and keeps the events it accepts.

    Runs inside `with`, and may be entered again when it has ended. While it runs, programs of the
    same user find its key by its port.
    """

    port: int
    """The port that it listens on; known inside `with`, as the key and its file."""
    key: str
    """The key that requests need: `Authorization: Bearer ap_…`."""
    key_file: Path | None
    """Where programs of this user find the key; None where it could not be written."""

    def __init__(
        self, port: int = 0, database: Path | str = MEMORY, key: str | None = None
    ) -> None:
        """Does not listen yet.

        Args:
            port: Where to listen; 0 takes a free one.
            database: A file, which is made if it isn't there, or ":memory:".
            key: The only key that is accepted; by default another one each time it is entered.
        """
        self._wanted = port, database, key
        self._stack: ExitStack | None = None

    def __enter__(self) -> Self:
        """Starts it.

        Raises:
            PortError: Another program listens on the port, or it isn't for everybody.
            DatabaseError: The database can't be used.
        """
        if self._stack is not None:
            message = "The server is running already."
            raise RuntimeError(message)
        port, database, key = self._wanted
        with ExitStack() as stack:
            # The port first: a server that can't have it doesn't touch the database.
            listening = stack.enter_context(_listen(port))
            self._storage = stack.enter_context(closing(Storage(database)))
            self.port, self.key = listening.getsockname()[1], key or new_key()
            # Before anything is answered, because whoever is refused for the key of an earlier run
            # reads it; and until nothing is: without a key, events would be refused, not kept.
            self.key_file = file = _publish_key(self.port, self.key)
            stack.callback(_withdraw_key, file, self.key)
            where = "that was printed as it started" if file is None else f"in {file}"
            api = Api(self._storage, Access(self.key, self.port, where))
            _serve(stack, api.application(), listening)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()
            del self.port, self.key, self.key_file, self._storage

    def __getattr__(self, name: str) -> NoReturn:
        # Of those that it has only while it runs.
        message = f"{name}: the server is not running: use it in `with LocalServer() as server:`."
        raise AttributeError(message)

    @property
    def url(self) -> str:
        """The address, for example `http://127.0.0.1:4319`."""
        return f"http://{ADDRESS}:{self.port}"

    def browser_address(self) -> str:
        """An address, another one each time, that opens the page in one browser, once."""
        return self.url + opening_path(self.key)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The accepted events in the order of arrival: each as it was sent, and its `agent`."""
        return self._storage.arrivals(kind)


def _serve(stack: ExitStack, app: ASGIApp, listening: socket.socket) -> None:
    """Serves in a thread until the stack is closed; who connects before it is up waits for it."""
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
        headers=_HEADERS,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_STOPPING,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, args=([listening],), name="agentpulse-server", daemon=True
    )
    thread.start()
    stack.callback(thread.join)
    stack.callback(setattr, server, "should_exit", True)


def _listen(port: int) -> socket.socket:
    try:
        bound = socket.create_server((ADDRESS, port), backlog=128)
    except (OSError, OverflowError) as error:
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is in use by another program" if is_taken else f"can't be used: {error}"
        message = f"Port {port} {reason}."
        raise PortError(message) from error
    # asyncio looks at the protocol by name before it sets TCP_NODELAY. Without that, head and body
    # of an answer, which are two writes, wait 40 ms for each other on a kept-alive connection.
    return socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())


def default_database() -> Path:
    """The database in the user's folder for data."""
    return data_folder() / "agentpulse.sqlite3"


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
        descriptor, new = mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with open(descriptor, "w") as writing:  # noqa: PTH123  # a descriptor is no path
            writing.write(f"{key}\n")
        Path(new).replace(file)
    except (OSError, RuntimeError):
        return None
    return file


def _withdraw_key(file: Path | None, key: str) -> None:
    """Takes the key away again, unless another server has put its own there."""
    if file is not None and read_key(file) == key:
        with suppress(OSError):
            file.unlink()
