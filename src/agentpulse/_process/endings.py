"""How a process ends: by an exception that nobody handles, by SIGTERM, as a worker of Celery.

Each function here returns one that takes everything back.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from agentpulse_exporter._delivery.process import end_child
from agentpulse_instrumentation._engine.patching import when_imported
from agentpulse_instrumentation._shield import shield

from agentpulse._output import warn_once

_REPORT = shield("report an unhandled exception")
_CONNECT = shield("connect to the end of Celery's workers")

Restore = Callable[[], None]


Note = Callable[[object, str], None]
"""Is called with an exception and where it was."""


def report_crashes(report: Callable[[BaseException, str], None]) -> Restore:
    """Calls `report` with each unhandled exception and where it was: "main", "thread", "asyncio".

    The hook of before is called afterwards. Ctrl-C is the user's own doing, and no error.
    """
    wanted = [True]
    hooks: list[tuple[Any, str, object, object]] = []

    def note(error: object, where: str) -> None:
        if wanted and isinstance(error, Exception):
            report(error, where)

    for owner, name, observe in _HOOKS:
        before = getattr(owner, name)
        ours = _hook(observe, before, note)
        hooks.append((owner, name, before, ours))
        setattr(owner, name, ours)

    def restore() -> None:
        wanted.clear()
        for owner, name, before, ours in hooks:
            # Where somebody hooked in after us, ours stays and lets all pass.
            if getattr(owner, name) is ours:
                setattr(owner, name, before)

    return restore


def _hook(observe: Callable[..., None], before: Callable[..., None], note: Note) -> Any:
    def hook(*given: Any, **named: Any) -> None:
        with _REPORT:
            observe(note, *given, **named)
        before(*given, **named)

    return hook


def _observe_main(note: Note, _kind: object, error: BaseException, _traceback: object) -> None:
    note(error, "main")


def _observe_thread(note: Note, arguments: threading.ExceptHookArgs, /) -> None:
    note(arguments.exc_value, "thread")


def _observe_asyncio(note: Note, _loop: object, context: dict[str, Any]) -> None:
    # This may run in whatever drops the last reference to a task.
    _context_of(context).run(note, context.get("exception"), "asyncio")


_HOOKS = (
    (sys, "excepthook", _observe_main),
    (threading, "excepthook", _observe_thread),
    (asyncio.BaseEventLoop, "call_exception_handler", _observe_asyncio),
)


def _context_of(failed: dict[str, Any]) -> contextvars.Context:
    """The context of the task or callback that failed; the current one where there is neither.

    An empty one where Python doesn't have it, as for tasks before 3.12.
    """
    source = failed.get("task") or failed.get("future") or failed.get("handle")
    if source is None:
        return contextvars.copy_context()
    given = getattr(source, "get_context", None)
    context = given() if given is not None else getattr(source, "_context", None)
    return context.copy() if isinstance(context, contextvars.Context) else contextvars.Context()


def flush_on_sigterm(flush: Callable[[], object], timeout: float) -> Restore:
    """At SIGTERM, which by default ends a process without its exit functions, flushes first.

    The handler of before is called afterwards; the default action is repeated, so that the exit
    status still shows the signal. SIGINT is left alone.
    """
    previous = signal.getsignal(signal.SIGTERM)
    wanted = [True]

    def handle(number: int, frame: FrameType | None) -> None:
        if wanted:
            _run_bounded(flush, timeout)
        _handle_as(previous, number, frame)

    def restore() -> None:
        wanted.clear()
        try:
            if signal.getsignal(signal.SIGTERM) is handle:
                signal.signal(signal.SIGTERM, previous)
        except ValueError:
            return  # not the main thread: ours stays, and only calls the one of before

    try:
        if previous is None:
            raise ValueError  # somebody's handler in C, which Python can't call
        signal.signal(signal.SIGTERM, handle)
    except ValueError:
        warn_once(
            "flush_on_sigterm has no effect here: it needs agentpulse.init to be called in the "
            "main thread, and no handler of SIGTERM outside Python."
        )
    return restore


def _handle_as(previous: object, number: int, frame: FrameType | None) -> None:
    if callable(previous):
        previous(number, frame)
    elif previous == signal.SIG_DFL:
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


def end_with_celery_workers() -> Restore:
    """Sends the last spans of workers of Celery's prefork pool, which leave by `os._exit`."""
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


def _end(**_details: object) -> None:
    end_child()
