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
import math
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentpulse_exporter._delivery.endpoint import Endpoint, Proxy
from agentpulse_exporter._delivery.waits import Primitives

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

TLS = "tls"
UNREACHABLE = "unreachable"

_HANG_UPS = (ConnectionError, http.client.HTTPException, ssl.SSLError)
_MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read, head and body together, where not all of it is wanted."""
_CHUNK = 64 * 1024
_SECONDS_FOR_BODY = 1.0
_SECONDS_KEPT = 30.0


# Names of hosts are encoded by it, and a child that is forked while it is loaded never gets it.
codecs.lookup("idna")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; its body is the beginning only, or nothing where it took too long."""

    status: int
    content_type: str = ""
    retry_after: str | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str] = field(repr=False)
    is_whole: bool = False


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

    def __init__(self, endpoint: Endpoint, proxy: Proxy | None = None) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self.primitives: Primitives = Primitives()
        """The functions that wait for the network."""
        self._socket: socket.socket | None = None
        self._opening: socket.socket | None = None
        self._process = os.getpid()
        self._used_at = 0.0
        self._aborted = False

    def post(
        self,
        body: bytes,
        headers: Mapping[str, str],
        *,
        seconds: float,
        to_connect: float = math.inf,
    ) -> Answer:
        """Posts to `/v1/ingest`. Sending, and the head of the answer, take at most `seconds`.

        Of these, a new connection may take `to_connect`.

        A kept connection that turns out to be closed is replaced without a word. Redirects are
        answers like others.

        Raises:
            NoAnswerError: There was no answer in time.
        """
        request = _Request("POST", "/v1/ingest", body, headers)
        return self._request(request, seconds, min(seconds, to_connect))

    def get(
        self, path: str, headers: Mapping[str, str], *, seconds: float, is_whole: bool = False
    ) -> Answer:
        """Asks for a path below the endpoint, under the same terms as `post`.

        With `is_whole`, all of the body of a success is read within the `seconds`.
        """
        return self._request(_Request("GET", path, None, headers, is_whole), seconds, seconds)

    def _request(self, request: _Request, seconds: float, to_connect: float) -> Answer:
        deadline = time.monotonic() + seconds
        kept = self._kept()
        is_connected = False
        try:
            if kept is not None:
                try:
                    return self._exchange(kept, request, deadline)
                except ConnectionError:
                    # The receiver closed it while it was idle, or as we wrote. It drops repeats.
                    self.close()
            opened = self._open(min(deadline, time.monotonic() + to_connect))
            is_connected = True
            return self._exchange(opened, request, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            reason = TLS if isinstance(error, ssl.SSLError) and not is_connected else UNREACHABLE
            hung_up = is_connected and isinstance(error, _HANG_UPS) and not self._aborted
            # Without its cause: http.client puts the value of a header it refuses into the message.
            raise NoAnswerError(reason, error, hung_up=hung_up) from None

    def belong_to_this_thread(self) -> None:
        """Waits from now on as this thread does, in which every request is made."""
        self.close()
        self.primitives = Primitives(with_tls=self._endpoint.scheme == "https")

    def abort(self) -> None:
        """Ends what another thread waits for, and every request from then on, for good."""
        self._aborted = True
        for waiting in (self._opening, self._socket):
            if waiting is not None:
                try:
                    waiting.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        kept, self._socket = self._socket, None
        if kept is not None:
            kept.close()

    def forget(self) -> None:
        """Starts anew in a child process: the connection is the parent's."""
        self.close()
        self._opening = None
        self._aborted = False
        self._process = os.getpid()

    def _kept(self) -> socket.socket | None:
        kept = self._socket
        if kept is None:
            return None
        if self._process != os.getpid():
            self.forget()
            return None
        # Nothing comes on an idle connection but its end.
        if time.monotonic() - self._used_at > _SECONDS_KEPT or self.primitives.is_readable(kept):
            self.close()
            return None
        return kept

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
        """A connection to the first address of the host that takes one in time."""
        failure = OSError("the host has no address")
        addresses = self.primitives.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            # Before it connects, so that another thread can shut it down.
            self._opening = connection = self.primitives.socket(family, kind, protocol)
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
        secure = self.primitives.tls().wrap_socket(
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

    def _exchange(self, connection: socket.socket, request: _Request, deadline: float) -> Answer:
        path = f"{self._endpoint.path}{request.path}"
        body = request.body or b""
        more = {"Host": self._endpoint.authority, "Accept-Encoding": "identity"}
        if request.body is not None:
            more["Content-Length"] = str(len(body))
        if self._proxy is not None and self._endpoint.scheme == "http":
            path = f"http://{self._endpoint.authority}{path}"
            more |= self._proxy.headers
        channel = _Channel(connection, deadline)
        if request.is_whole:
            channel.unread = math.inf
        channel.sendall(_head(request.method, path, {**more, **request.headers}) + body)
        response = _answer(channel, request.method)
        answer = Answer(
            response.status,
            response.headers.get_content_type(),
            response.getheader("Retry-After"),
            _body(response, channel, is_whole=request.is_whole),
        )
        if response.will_close or not response.isclosed() or answer.status < http.client.OK:
            self.close()
        self._used_at = time.monotonic()
        return answer


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The first lines of a request.

    Raises:
        ValueError: There is a character in it that could end a line, or that isn't ASCII.
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
        # http.client takes the head as it is, and a status that was cut for the whole of it.
        message = "the answer ended in its head"
        raise ConnectionResetError(message)
    return answer


def _body(response: http.client.HTTPResponse, channel: _Channel, *, is_whole: bool) -> bytes:
    if is_whole and response.status == http.client.OK:
        return response.read()
    # The head decides. The body is worth a second more, and no failure.
    channel.deadline = min(channel.deadline, time.monotonic() + _SECONDS_FOR_BODY)
    try:
        return response.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return b""


def _remaining(deadline: float) -> float:
    """Seconds until the deadline; raises TimeoutError where it has passed."""
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
        self.unread: float = _MAX_ANSWER
        """Bytes that are read, at most."""
        self.has_ended = False
        """Whether the other side was seen to send no more."""

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
        view = memoryview(buffer)
        if self.unread < len(view):
            view = view[: int(self.unread)]
        if not view:
            return 0
        self._connection.settimeout(_remaining(self.deadline))
        received = self._connection.recv_into(view)
        self.has_ended = not received
        self.unread -= received
        return received
