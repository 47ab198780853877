"""One connection to the endpoint, and requests over it.

`http.client` reads the answers; connecting, deadlines, proxies and the life of the socket are done
here, because the ready-made clients follow redirects with the key, read `.netrc`, share
process-wide state, and wait without end. Requests are written here, because Sentry, Datadog and
others patch `HTTPConnection`: they would see uploads as requests of the program, whatever
OpenTelemetry says, and have them carry their own headers.
"""

from __future__ import annotations

import base64
import http.client
import math
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from agentpulse_exporter._delivery.deadline import MAX_ANSWER, DeadlineSocket, connect, encrypt
from agentpulse_exporter._delivery.waits import Primitives
from agentpulse_exporter.settings import ConfigurationError, Endpoint

# The proxy between this machine and the endpoint, as the environment says.


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, spoken to in the clear; an https endpoint is tunnelled through it."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """The proxy to use, by `https_proxy` or `http_proxy`, and `no_proxy`; None for a direct way.

    The environment is read once: what it says of proxies is not safe to ask for after a fork.

    Raises:
        ConfigurationError: The variable holds no address of a proxy.
    """
    # A proxy would see the traffic of this machine with itself, and the key in it.
    if endpoint.is_loopback or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Slow to import, and rarely needed.
    from urllib.request import getproxies_environment, proxy_bypass

    address = getproxies_environment().get(endpoint.scheme)
    if not address or proxy_bypass(endpoint.authority):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if not host:
        message = f"{endpoint.scheme}_proxy is no address of a proxy; expected http://host:port."
        raise ConfigurationError(message)
    if parts.username is None:
        return Proxy(host, port or 80)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or 80, f"Basic {base64.b64encode(credentials.encode()).decode()}")


TLS = "tls"
UNREACHABLE = "unreachable"

_HANG_UPS = (ConnectionError, http.client.HTTPException, ssl.SSLError)
_SECONDS_FOR_BODY = 1.0
_SECONDS_KEPT = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said. The body is its beginning only, or nothing where it took too long."""

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
        self.primitives = Primitives()
        """What waits for the network here."""
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
        """Posts to `/v1/ingest`. What is sent and the head of the answer take at most `seconds`.

        Of these, a new connection may take `to_connect`.

        A kept connection that turns out to be closed is replaced without a word. Redirects are
        answers like others.

        Raises:
            NoAnswerError: There was no answer in time.
        """
        request = _Request("POST", "/v1/ingest", body, headers)
        return self._request(request, seconds, min(seconds, to_connect))

    def get(self, path: str, headers: Mapping[str, str], *, seconds: float) -> Answer:
        """Asks for a path below the endpoint, under the same terms as `post`."""
        return self._request(_Request("GET", path, None, headers), seconds, seconds)

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
        # Nobody has anything to say on an idle connection: what can be read there is its end.
        if time.monotonic() - self._used_at > _SECONDS_KEPT or self.primitives.is_readable(kept):
            self.close()
            return None
        return kept

    def _open(self, deadline: float) -> socket.socket:
        if self._aborted:
            message = "shutting down"
            raise TimeoutError(message)
        target = self._proxy or self._endpoint
        opened = connect(target.host, target.port, deadline, self._note_opening, self.primitives)
        try:
            if self._endpoint.scheme == "https":
                if self._proxy is not None:
                    self._tunnel(opened, self._proxy, deadline)
                opened = encrypt(
                    opened,
                    self._endpoint.host,
                    deadline,
                    self.primitives.tls(),
                    self._note_opening,
                )
        except BaseException:
            opened.close()
            raise
        self._socket, self._opening = opened, None
        return opened

    def _note_opening(self, opening: socket.socket) -> None:
        self._opening = opening

    def _tunnel(self, opened: socket.socket, proxy: Proxy, deadline: float) -> None:
        target = f"{self._endpoint.authority.removesuffix(':443')}:{self._endpoint.port}"
        headers = {"Host": target}
        if proxy.authorization is not None:
            headers["Proxy-Authorization"] = proxy.authorization
        channel = DeadlineSocket(opened, deadline)
        channel.sendall(_head("CONNECT", target, headers))
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
            if self._proxy.authorization is not None:
                more["Proxy-Authorization"] = self._proxy.authorization
        channel = DeadlineSocket(connection, deadline)
        channel.sendall(_head(request.method, path, {**more, **request.headers}) + body)
        response = _answer(channel, request.method)
        # The head decides. The body is worth a second more, and no failure.
        channel.deadline = min(deadline, time.monotonic() + _SECONDS_FOR_BODY)
        answer = Answer(
            response.status,
            response.headers.get_content_type(),
            response.getheader("Retry-After"),
            _beginning(response),
        )
        if response.will_close or not response.isclosed() or _is_interim(answer):
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


def _answer(channel: DeadlineSocket, method: str) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(channel, method=method)  # pyright: ignore[reportArgumentType]  # it asks for no more than makefile
    answer.begin()
    if channel.has_ended:
        # http.client takes the head as it is, and a status that was cut for the whole of it.
        message = "the answer ended in its head"
        raise ConnectionResetError(message)
    return answer


def _is_interim(answer: Answer) -> bool:
    return answer.status < http.client.OK


def _beginning(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return b""
