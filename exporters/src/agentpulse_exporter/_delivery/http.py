"""One connection to the endpoint, and requests over it, each under one absolute deadline.

`http.client` reads the answers; connecting, deadlines, proxies and the life of the socket are done
here, because the ready-made clients follow redirects with the key, read `.netrc`, share
process-wide state, and have timeouts for one read at a time: an answer that drips lasts for as long
as it likes. Requests are written here, because Sentry, Datadog and others patch `HTTPConnection`:
they would see uploads as requests of the program, heed no suppression of OpenTelemetry's, and add
their own headers.
"""

from __future__ import annotations

import codecs
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentpulse_exporter import __version__
from agentpulse_exporter._delivery.endpoint import ApiKey, Endpoint, KnownKeys, Proxy

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

TLS = "tls"
UNREACHABLE = "unreachable"
INGEST = "/v1/ingest"
"""The path that events are posted to."""

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"agentpulse-python/{__version__}"}
_UNKNOWN_KEY = (401, 403)
_HANG_UPS = (ConnectionError, http.client.HTTPException, ssl.SSLError)
_MAX_ANSWER = 64 * 1024
"""Bytes of a body that are read, at most, unless the whole body is wanted."""
_CHUNK = 64 * 1024
_SECONDS_FOR_BODY = 1.0
_SECONDS_KEPT = 30.0
_SECONDS_TO_CONNECT = 5.0


# Host names are encoded by this codec, and a child forked while it loads can never load it.
codecs.lookup("idna")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. After a post, `body` has the beginning of it, or is empty if it took too long."""

    status: int
    content_type: str = ""
    retry_after: str | None = None
    body: bytes = b""
    requests: int = 1
    """The number of requests made for this answer, each with another key."""


class NoAnswerError(Exception):
    """No answer came; the message never holds a header.

    Attributes:
        reason: One word for the counters.
        hung_up: Whether the receiver took the connection, and ended it instead of answering.
    """

    def __init__(self, reason: str, cause: BaseException, *, hung_up: bool = False) -> None:
        super().__init__(f"{reason} ({type(cause).__name__})")
        self.reason = reason
        self.hung_up = hung_up


class Transport:
    """Sends requests to one endpoint, one at a time; only `abort` may come from another thread."""

    def __init__(
        self, endpoint: Endpoint, proxy: Proxy | None = None, keys: KnownKeys = lambda: [None]
    ) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._keys = keys
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        self.forget()
        self._take_functions()

    def request(
        self, path: str, headers: Mapping[str, str], body: bytes | None = None, *, seconds: float
    ) -> Answer:
        """Asks for a path below the endpoint, or posts to it. A redirect is an answer like others.

        If the key is refused, the request is made again with the next key: an event must not be
        lost because a local server was started anew, or because a stopped one left its key behind.

        Args:
            path: The path below the path of the endpoint.
            headers: Headers in addition to those that every request has.
            body: The body to post; without a body, a successful answer is read whole.
            seconds: The limit for sending and for the head of the answer.

        Raises:
            NoAnswerError: There was no answer in time.
        """
        deadline = time.monotonic() + seconds
        tried: list[ApiKey | None] = []
        untried = self._keys()
        while True:
            tried.append(key := untried[0])
            authorization = {} if key is None else {"Authorization": key.authorization()}
            answer = self._ask(path, {**headers, **authorization}, body, deadline)
            # Read anew after each refusal: the server may have started only just now.
            untried = [key for key in self._keys() if key not in tried]
            if answer.status not in _UNKNOWN_KEY or not untried:
                return replace(answer, requests=len(tried))

    def _ask(
        self, path: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> Answer:
        """The answer to one request; a kept connection that turns out to be closed is replaced."""
        if not self._has_own_thread and self.sleep is not time.sleep:
            self._renew()
        if time.monotonic() - self._used_at > _SECONDS_KEPT:
            self.close()
        kept, is_connected = self._socket, False
        try:
            method, data = self._written(path, headers, body)
            if kept is not None:
                try:
                    return self._exchange(kept, method, data, deadline)
                except (ConnectionError, ssl.SSLError):
                    # The receiver closed it while it was idle, or as we wrote. It drops repeats.
                    self.close()
            opened = self._open(min(deadline, time.monotonic() + _SECONDS_TO_CONNECT))
            is_connected = True
            return self._exchange(opened, method, data, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            reason = TLS if isinstance(error, ssl.SSLError) and not is_connected else UNREACHABLE
            hung_up = is_connected and isinstance(error, _HANG_UPS) and not self._aborted
            # Without its cause: http.client puts the value of a header it refuses into the message.
            raise NoAnswerError(reason, error, hung_up=hung_up) from None

    def belong_to_this_thread(self) -> None:
        """Called once on the worker thread; later waits use its kind of sleep (gevent, native)."""
        self._has_own_thread = True
        self._renew()

    def _renew(self) -> None:
        self.close()
        self._take_functions()
        # The TLS context is made now, with the same functions. If certificates can't be read, each
        # connection fails with the reason.
        with suppress(OSError):
            self._tls = ssl.create_default_context() if self._endpoint.scheme == "https" else None

    def _take_functions(self) -> None:
        """Takes the standard library's functions that wait for the network, as they are now.

        gevent and eventlet replace them for greenlets. A native thread that was started before that
        gets an event loop of its own when it uses the new functions. If the main thread gets its
        first event loop at the same moment, both wait for each other for ever. So a worker keeps
        the functions of the moment at which it starts.
        """
        self.sleep: Callable[[float], object] = time.sleep
        self._new_socket: type[socket.socket] = socket.socket
        self._getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo
        self._tls: ssl.SSLContext | None = None

    def abort(self) -> None:
        """Ends the current request of another thread, and makes every later request fail."""
        self._aborted = True
        for waiting in (self._opening, self._socket):
            if waiting is not None:
                with suppress(OSError):
                    waiting.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        kept, self._socket = self._socket, None
        if kept is not None:
            kept.close()

    def forget(self) -> None:
        """Starts anew in a child process, because the connection belongs to the parent."""
        self.close()
        self._opening: socket.socket | None = None
        self._aborted = self._has_own_thread = False

    def _open(self, deadline: float) -> socket.socket:
        if self._aborted:
            message = "shutting down"
            raise TimeoutError(message)
        target = self._proxy or self._endpoint
        opened = self._connect(target.host, target.port, deadline)
        try:
            if self._endpoint.scheme == "https":
                if self._proxy is not None:
                    self._tunnel(opened, self._proxy, deadline)
                opened = self._encrypt(opened, deadline)
        except BaseException:
            opened.close()
            raise
        self._socket, self._opening = opened, None
        return opened

    def _connect(self, host: str, port: int, deadline: float) -> socket.socket:
        """A connection to the first address of the host that accepts it in time."""
        failure = OSError("the host has no address")
        addresses = self._getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # Before it connects, so that another thread can shut it down.
            self._opening = connection = self._new_socket(family, kind, protocol)
            try:
                # An address that swallows connections leaves time for the ones after it.
                connection.settimeout(_remaining(deadline) / (len(addresses) - tried))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        raise failure

    def _encrypt(self, connection: socket.socket, deadline: float) -> socket.socket:
        """The connection under TLS, the host's name checked."""
        # Kept, because loading the certificates of the machine takes a while.
        self._tls = self._tls or ssl.create_default_context()
        secure = self._tls.wrap_socket(
            connection, server_hostname=self._endpoint.host, do_handshake_on_connect=False
        )
        self._opening = secure
        secure.settimeout(_remaining(deadline))
        secure.do_handshake()
        return secure

    def _tunnel(self, opened: socket.socket, proxy: Proxy, deadline: float) -> None:
        target = f"{self._endpoint.authority.removesuffix(':443')}:{self._endpoint.port}"
        channel = _Channel(opened, deadline)
        channel.sendall(_head("CONNECT", target, {"Host": target, **proxy.headers}))
        answer = _answer(channel, "CONNECT")
        if answer.status != http.client.OK:
            message = f"the proxy answered {answer.status}"
            raise ConnectionRefusedError(message)

    def _written(
        self, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[str, bytes]:
        """The method, and the whole request."""
        method, target = "GET" if body is None else "POST", f"{self._endpoint.path}{path}"
        more = {"Host": self._endpoint.authority, **_HEADERS}
        if body is not None:
            more["Content-Length"] = str(len(body))
        if self._proxy is not None and self._endpoint.scheme == "http":
            target = f"http://{self._endpoint.authority}{target}"
            more |= self._proxy.headers
        return method, _head(method, target, {**more, **headers}) + (body or b"")

    def _exchange(self, opened: socket.socket, method: str, data: bytes, deadline: float) -> Answer:
        channel = _Channel(opened, deadline)
        channel.sendall(data)
        response = _answer(channel, method)
        answer = Answer(
            response.status,
            response.headers.get_content_type(),
            response.getheader("Retry-After"),
            _body(response, channel, is_whole=method == "GET"),
        )
        if response.will_close or not response.isclosed() or answer.status < http.client.OK:
            self.close()
        self._used_at = time.monotonic()
        return answer


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The first lines of a request.

    Raises:
        ValueError: A character could end a line, or isn't ASCII.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    if not all(" " <= character <= "~" for line in lines for character in line):
        message = "a header has characters that no header has"
        raise ValueError(message)
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _answer(channel: _Channel, method: str) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(channel, method=method)  # pyright: ignore[reportArgumentType]  # it asks for no more than makefile
    answer.begin()
    if channel.has_ended:
        # http.client accepts an incomplete head, and takes a cut status for a whole one.
        message = "the answer ended in its head"
        raise ConnectionResetError(message)
    return answer


def _body(response: http.client.HTTPResponse, channel: _Channel, *, is_whole: bool) -> bytes:
    if is_whole and response.status == http.client.OK:
        return response.read()
    # The head decides the outcome. Reading the body may take a second more, and may fail.
    channel.deadline = min(channel.deadline, time.monotonic() + _SECONDS_FOR_BODY)
    try:
        return response.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return b""


def _remaining(deadline: float) -> float:
    """Seconds until the deadline; raises TimeoutError if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        message = "the deadline has passed"
        raise TimeoutError(message)
    return seconds


class _Channel(io.RawIOBase):
    """A socket as `http.client` uses it, under a deadline that may be moved."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self.deadline = deadline
        self.has_ended = False
        """Whether the other side has closed its side of the connection."""

    def sendall(self, data: ReadableBuffer) -> None:
        left = memoryview(data)
        while left:
            self._connection.settimeout(_remaining(self.deadline))
            left = left[self._connection.send(left[:_CHUNK]) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A reader of one answer; its owner closes the socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._connection.settimeout(_remaining(self.deadline))
        received = self._connection.recv_into(buffer)
        self.has_ended = not received
        return received
