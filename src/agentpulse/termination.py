"""SIGTERM, which by default ends a process without its exit functions: flush first, then go on.

Only where the user asks for it. The handler of before is called afterwards; the default action is
repeated, so that the exit status still tells of the signal. SIGINT is left alone.
"""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable
from types import FrameType

from agentpulse.logs import warn_once


class TerminationFlush:
    """A handler of SIGTERM, installed by `install` and taken back by `restore`."""

    def __init__(self, flush: Callable[[], object], timeout: float) -> None:
        """Makes a handler that calls `flush` and waits for it, `timeout` seconds at most."""
        self._flush: Callable[[], object] | None = flush
        self._timeout = timeout
        self._previous = signal.getsignal(signal.SIGTERM)

    def install(self) -> None:
        """Takes SIGTERM over, or warns where that isn't possible."""
        try:
            if self._previous is None:
                raise ValueError  # somebody's handler in C, which Python can't call
            signal.signal(signal.SIGTERM, self._handle)
        except ValueError:
            self._flush = None
            warn_once(
                "flush_on_sigterm has no effect here: it needs agentpulse.init to be called in the "
                "main thread, and no handler of SIGTERM outside Python."
            )

    def restore(self) -> None:
        """Puts the handler of before back; where another one came after ours, ours passes on."""
        self._flush = None
        try:
            if signal.getsignal(signal.SIGTERM) == self._handle:
                signal.signal(signal.SIGTERM, self._previous)
        except ValueError:
            return  # not the main thread: ours stays, passing on

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._flush is not None:
            _run_bounded(self._flush, self._timeout)
        if callable(self._previous):
            self._previous(number, frame)
        elif self._previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _run_bounded(function: Callable[[], object], timeout: float) -> None:
    # The handler interrupted the main thread, maybe inside a lock that the function needs: then the
    # other thread waits in vain, but not we. `threading` would need a lock of its own to start one.
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            function()
        finally:
            done.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        return  # the interpreter is ending, and the exit function flushes
    done.acquire(timeout=timeout)
