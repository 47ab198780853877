"""Waits that end in time in any kind of thread, and never stop an event loop.

gevent and eventlet replace threads and locks when the program asks for it: before us, after us, or
in a child of a fork. A lock made before blocks the whole event loop when a greenlet waits in it,
and a native thread that releases one made after doesn't wake a greenlet. So the worker waits in an
`Alarm` that is made together with it, and all other threads poll with short sleeps: `time.sleep` is
always of the kind of its caller.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, cast

# The functions of the standard library that wait for the network, of one kind of thread.


class Primitives:
    """These functions as they are when this is made.

    gevent and eventlet replace them for greenlets. A native thread that was started before, and
    that uses them after, gets an event loop of its own; and where the main thread gets its first
    one at the same moment, both wait for each other for ever. So a worker takes those of the moment
    at which it starts.
    """

    def __init__(self, *, with_tls: bool = False) -> None:
        """`with_tls` makes the TLS context now, of this kind too, which takes some milliseconds."""
        self.sleep: Callable[[float], None] = time.sleep
        self.socket: type[socket.socket] = socket.socket
        self.getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo
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
        return None  # certificates that can't be read: each connection fails with the reason


_FIRST_SLEEP = 0.0005
_LONGEST_SLEEP = 0.02
_LONGEST = 86_400.0 * 365
_DEFAULT = 30.0


def bounded(timeout: object, *, per_second: int = 1) -> float:
    """A time-out, in seconds, that every wait takes: not negative, not endless, and a number.

    None, or a value that is no number, is as long as OpenTelemetry waits by default.

    Args:
        timeout: In seconds, or in their fractions.
        per_second: How many of these a second has: 1,000 for milliseconds.
    """
    if not isinstance(timeout, (int, float)):
        try:
            timeout = float(cast("Any", timeout))
        except Exception:  # noqa: BLE001  # a stranger's object may raise anything
            return _DEFAULT
    # Compared with itself, which an integer of any size can be, and no `nan` is equal to.
    is_number = timeout == timeout  # that is the test
    return min(max(timeout, 0.0), _LONGEST * per_second) / per_second if is_number else 0.0


def wait_until(
    condition: Callable[[], bool], deadline: float, sleep: Callable[[float], object] | None = None
) -> bool:
    """Polls until the condition holds or the monotonic clock reaches the deadline.

    `sleep` is that of the thread, where it isn't that of the moment.

    Returns:
        Whether it holds. Works inside a signal handler, for it waits in no lock.
    """
    sleep = sleep or time.sleep
    pause = _FIRST_SLEEP
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_SLEEP)
    return True


class Alarm:
    """Wakes the one thread that waits for it. Whoever starts that thread makes it.

    It is a lock, which `ring` releases: one step of C code, so that a signal handler that comes in
    the middle of it can ring too, and the same kind of thing as the thread (a library that replaces
    the one replaces the other).
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Ends the wait, or the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it rang already

    def wait(self, seconds: float) -> bool:
        """Waits for it to ring, at most so long; returns whether it did."""
        return self._lock.acquire(timeout=min(bounded(seconds), threading.TIMEOUT_MAX))


class Turn:
    """A lock whose holder may wait for the network: other threads poll for it.

    A context manager.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self, seconds: float = _LONGEST) -> bool:
        """Takes it, within so many seconds; returns whether it did."""
        deadline = time.monotonic() + bounded(seconds)
        return wait_until(lambda: self._lock.acquire(blocking=False), deadline)

    def give(self) -> None:
        """Gives it back."""
        self._lock.release()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_error: object) -> None:
        self.give()
