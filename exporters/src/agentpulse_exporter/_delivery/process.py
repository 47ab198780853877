"""The threads of a process, its ends and its forks: waits that end in time, and calls at the end.

gevent and eventlet replace threads and locks when the program asks for it: before us, after us, or
in a child of a fork. A lock made before blocks the whole event loop when a greenlet waits in it.
If a native thread releases a lock made after, no greenlet wakes. So the worker waits in an
`Alarm` that is made together with it, and all other threads poll with short sleeps: `time.sleep` is
always of the kind of its caller.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

_begins: list[Callable[[], None]] = []
_ends: list[Callable[[], None]] = []
"""Called when a child ends."""


def at_exit(method: Callable[[], None]) -> None:
    """Calls the bound method when the interpreter ends in good order."""
    _call_weakly(atexit.register, method)


def after_fork(method: Callable[[], None]) -> None:
    """Calls the bound method in each forked child, where there are any."""
    if hasattr(os, "register_at_fork"):
        _call_weakly(lambda call: os.register_at_fork(after_in_child=call), method)


def at_end_of_child(end: Callable[[], None], begin: Callable[[], None] | None = None) -> None:
    """Calls the bound methods when a forked child process ends, this one or any that it forks.

    Those of `multiprocessing` end by `os._exit`, past `atexit`. Every `begin` is called before the
    first `end`, so that what they start runs at the same time.
    """
    if begin is not None:
        _call_weakly(_begins.append, begin)
    _call_weakly(_ends.append, end)
    _multiprocessing.hook()


def end_child() -> None:
    """Calls the methods of `at_end_of_child`, where a child is about to end in another way."""
    for call in (*_begins, *_ends):
        call()


class _Multiprocessing:
    """`multiprocessing`, which calls at the end of its forked children, once it is imported."""

    _is_found = False

    def hook(self) -> None:
        util: Any = sys.modules.get("multiprocessing.util")
        process: Any = sys.modules.get("multiprocessing.process")
        if not hasattr(util, "register_after_fork") or not hasattr(process, "parent_process"):
            return  # it isn't, or not as a whole so far
        if not self._is_found:
            self._is_found = True
            # A child first clears all finalizers, then calls this. One of a fork server has run
            # the program's module by then, and `init` with it.
            util.register_after_fork(self, _Multiprocessing._in_child)
        if process.parent_process() is not None:
            self._in_child()

    def _in_child(self) -> None:
        sys.modules["multiprocessing.util"].Finalize(None, end_child, exitpriority=-100)


_multiprocessing = _Multiprocessing()
if hasattr(os, "register_at_fork"):
    # It may have been imported since, and its child has yet to begin as one.
    os.register_at_fork(after_in_child=_multiprocessing.hook)


def _call_weakly(
    register: Callable[[Callable[[], None]], object], method: Callable[[], None]
) -> None:
    """Registers a bound method for good, without keeping its object alive."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        alive = weak()
        if alive is not None:
            alive()

    register(call)


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

    `sleep` is the thread's own sleep, if it isn't the present `time.sleep`.

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
    """Wakes the one thread that waits for the alarm; the starter of that thread makes the alarm.

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


def acquire(lock: threading.Lock, seconds: float = _LONGEST) -> bool:
    """Acquires a lock whose holder may wait for the network, within so many seconds, if it can."""
    deadline = time.monotonic() + bounded(seconds)
    return wait_until(lambda: lock.acquire(blocking=False), deadline)
