"""The functions of the standard library that wait for the network, of one kind of thread."""

from __future__ import annotations

import select
import socket
import ssl
import time


class Primitives:
    """These functions as they are when this is made.

    gevent and eventlet replace them for greenlets. A native thread that was started before, and
    that uses them after, gets an event loop of its own; and where the main thread gets its first
    one at the same moment, both wait for each other for ever. So a worker takes those of the moment
    at which it starts.
    """

    def __init__(self, *, with_tls: bool = False) -> None:
        """`with_tls` makes the TLS context now, of this kind too, which takes some milliseconds."""
        self.sleep = time.sleep
        self.socket = socket.socket
        self.getaddrinfo = socket.getaddrinfo
        self._poll = getattr(select, "poll", None)
        self._select = select.select
        self._tls = _default_context() if with_tls else None

    @property
    def are_outdated(self) -> bool:
        """Whether they were replaced since."""
        return self.sleep is not time.sleep

    def tls(self) -> ssl.SSLContext:
        """The default context: certificates and host names are verified."""
        # Kept, because loading the certificates of the machine takes a while.
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def is_readable(self, connection: socket.socket) -> bool:
        """Whether something can be read, or the connection is broken. Doesn't wait."""
        try:
            if self._poll is None:
                return bool(self._select([connection], [], [], 0)[0])
            poller = self._poll()
            poller.register(connection, select.POLLIN)
            return bool(poller.poll(0))
        except (OSError, ValueError):
            return True


def _default_context() -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context()
    except OSError:
        return None  # certificates that can't be read: each connection says so
