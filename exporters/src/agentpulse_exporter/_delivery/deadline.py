"""Connections on which nothing outlasts one absolute deadline.

The timeouts of the standard library are for one read at a time: an answer that drips lasts for as
long as it likes. Here each connect, read and write gets what is left of the whole.
"""

from __future__ import annotations

import codecs
import io
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentpulse_exporter._delivery.waits import Primitives

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read, head and body together."""
_CHUNK = 64 * 1024
# Names of hosts are encoded by it, and a child that is forked while it is loaded never gets it.
codecs.lookup("idna")


def remaining(deadline: float) -> float:
    """Seconds until the deadline, by the monotonic clock.

    Raises:
        TimeoutError: It has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        message = "the deadline has passed"
        raise TimeoutError(message)
    return seconds


def connect(
    host: str,
    port: int,
    deadline: float,
    opened: Callable[[socket.socket], object],
    primitives: Primitives,
) -> socket.socket:
    """A connection to the first address of the host that takes one.

    `opened` gets each socket before it connects, so that another thread can shut it down.

    Raises:
        OSError: None took it in time.
    """
    failure = OSError("the host has no address")
    addresses = primitives.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = primitives.socket(family, kind, protocol)
        opened(connection)
        try:
            # An address that swallows connections leaves time for the ones after it.
            connection.settimeout(remaining(deadline) / (len(addresses) - tried))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def encrypt(
    connection: socket.socket,
    host: str,
    deadline: float,
    context: ssl.SSLContext,
    opened: Callable[[socket.socket], object],
) -> socket.socket:
    """The connection under TLS, the host's name checked. `opened` gets the socket that took over.

    Raises:
        OSError: The host isn't who it should be, or took too long to say so.
    """
    secure = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    opened(secure)
    secure.settimeout(remaining(deadline))
    secure.do_handshake()
    return secure


class DeadlineSocket:
    """What `http.client` asks of a socket, under a deadline that may be moved."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.has_ended = False
        """Whether the other side was seen to say no more."""

    def sendall(self, data: ReadableBuffer) -> None:
        """Sends everything, or raises `OSError`."""
        left = memoryview(data)
        while left:
            self.connection.settimeout(remaining(self.deadline))
            left = left[self.connection.send(left[:_CHUNK]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """A reader of one answer."""
        del mode  # http.client only ever reads
        return io.BufferedReader(_Answer(self))

    def close(self) -> None:
        """Does nothing: http.client closes before an answer is read, and the owner closes after."""


class _Answer(io.RawIOBase):
    """The bytes of one answer, up to as many as anybody needs of it."""

    def __init__(self, source: DeadlineSocket) -> None:
        self._source = source
        self._left = MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._left:
            return 0
        connection = self._source.connection
        connection.settimeout(remaining(self._source.deadline))
        received = connection.recv_into(memoryview(buffer)[: self._left])
        self._source.has_ended = not received
        self._left -= received
        return received
