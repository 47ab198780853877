"""SIGTERM, which by default ends a process without its exit functions: flush first, then go on.

Only where the user asks for it. The handler of before is called afterwards; the default action is
repeated, so that the exit status still tells of the signal. SIGINT is left alone.
"""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from agentpulse_exporter._delivery.process import end_child
from agentpulse_instrumentation._engine.patching import when_imported
from agentpulse_instrumentation._shield import shield

from agentpulse._logs import warn_once


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


# Workers of Celery's prefork pool: they leave by `os._exit`, after a signal of Celery's.

_CONNECT = shield("connect to the end of Celery's workers")


def end_with_celery_workers() -> Callable[[], None]:
    """Sends the last things that a worker told before it leaves; what is returned takes it back."""
    connected: list[Any] = []
    wanted = [True]

    def connect(signals: ModuleType) -> None:
        # Hooks can't be taken back, so it asks whether it is still wanted.
        with _CONNECT:
            if wanted:
                signals.worker_process_shutdown.connect(_end, weak=False)
                connected.append(signals.worker_process_shutdown)

    def disconnect() -> None:
        wanted.clear()
        with _CONNECT:
            while connected:
                connected.pop().disconnect(_end)

    when_imported("celery.signals", connect)
    return disconnect


def _end(**_told: object) -> None:
    end_child()
