"""The process: the context in its threads, unhandled exceptions, SIGTERM, workers of Celery.

Each function registers with an `ExitStack` what takes it back.

OpenTelemetry's threading instrumentation carries the context to threads too, and where it is on
already, it does it. It isn't used, because each of its versions asks for one version of
OpenTelemetry's packages, by which many an exporter or instrumentation could not be installed beside
AgentPulse.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import functools
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from contextlib import ExitStack, suppress
from types import FrameType, ModuleType
from typing import Any

from agentpulse_exporter._delivery.process import end_child
from agentpulse_instrumentation._engine.patching import shield, when_imported
from opentelemetry import context as context_api
from opentelemetry.context import Context

from agentpulse._output import warn_once

_OBSERVE = shield("observe a function of the process, or of a tracer provider")
_CONNECT = shield("connect to the end of Celery's workers")
_INSTRUMENTATION = "opentelemetry.instrumentation.threading"
# CPython calls this first in a new thread, before a `run` that its class may have of its own.
_FIRST = "_bootstrap_inner" if hasattr(threading.Thread, "_bootstrap_inner") else "run"
_KEPT = "_agentpulse_context"
"""The attribute of a thread with the context that it was started in, until it runs."""
_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
_POOL_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""All public methods of a `ThreadPool` call one of these; the function is their first argument."""

Given = tuple[Any, ...]


def patch(
    undo: ExitStack,
    owner: Any,
    name: str,
    before: Callable[[Given, dict[str, Any]], Given | None] | None = None,
    after: Callable[[], None] | None = None,
) -> None:
    """Has a function of a class, module or object call `before` first, and `after` last.

    `before` may return other positional arguments than those that were given. `undo` takes it back;
    where somebody replaced the function since, ours stays, and does nothing.
    """
    is_inherited = name not in owner.__dict__
    original = getattr(owner, name)
    wanted = [True]

    @functools.wraps(original)
    def patched(*args: Any, **kwargs: Any) -> Any:
        if wanted and before is not None:
            with _OBSERVE:
                args = before(args, kwargs) or args
        result = original(*args, **kwargs)
        if wanted and after is not None:
            with _OBSERVE:
                after()
        return result

    def restore() -> None:
        wanted.clear()
        if owner.__dict__.get(name) is not patched:
            return
        if is_inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    setattr(owner, name, patched)
    undo.callback(restore)


def carry_context(undo: ExitStack) -> None:
    """Has threads, executors and pools run in the context of the code that started them."""
    instrumentor = getattr(sys.modules.get(_INSTRUMENTATION), "ThreadingInstrumentor", None)
    if instrumentor is not None and instrumentor().is_instrumented_by_opentelemetry:
        return
    patch(undo, threading.Thread, "start", _keeping)
    patch(undo, threading.Thread, _FIRST, _in_kept_context)
    patch(undo, futures.ThreadPoolExecutor, "submit", _carrying)
    wanted = _until_undone(undo)

    def patch_pools(module: ModuleType) -> None:
        # Hooks can't be taken back, so it asks whether it is still wanted.
        pool: Any = getattr(module, "ThreadPool", None)
        if wanted and all(hasattr(pool, name) for name in _POOL_METHODS):
            with _OBSERVE:
                for name in _POOL_METHODS:
                    patch(undo, pool, name, _carrying)

    when_imported("multiprocessing.pool", patch_pools)


def _until_undone(undo: ExitStack) -> list[bool]:
    """True in a list, until it is taken back; then the list is empty."""
    wanted = [True]
    undo.callback(wanted.clear)
    return wanted


def _keeping(given: Given, _named: dict[str, Any]) -> Given:
    """Before `Thread.start`."""
    if given and isinstance(given[0], threading.Thread):
        # A class of threads may have a `__setattr__` of its own.
        vars(given[0])[_KEPT] = context_api.get_current()
    return given


def _in_kept_context(given: Given, _named: dict[str, Any]) -> Given:
    """Before a thread's first method. Its own context ends with it, so nothing is put back."""
    thread: threading.Thread = given[0]
    kept = vars(thread).pop(_KEPT, None)
    if isinstance(kept, Context):
        # The jobs of a pool's thread are not those of the code that happened to start it.
        is_of_pool = getattr(vars(thread).get("_target"), "__module__", None) in _POOLS
        context_api.attach(Context() if is_of_pool else kept)
    return given


def _carrying(given: Given, named: dict[str, Any]) -> Given:
    """Before a method that takes a function for another thread, as its first argument."""
    if len(given) > 1 and callable(given[1]):
        return (given[0], _in_this_context(given[1]), *given[2:])
    if len(given) == 1 and callable(named.get("func")):
        named["func"] = _in_this_context(named["func"])
    return given


def _in_this_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called in the context that is the current one now."""
    context = context_api.get_current()

    def job(*args: Any, **kwargs: Any) -> Any:
        token = context_api.attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            context_api.detach(token)

    return job


def report_crashes(report: Callable[[BaseException, str], None], undo: ExitStack) -> None:
    """Calls `report` with each unhandled exception and where it was: "main", "thread", "asyncio".

    The previous hook is called afterwards. Ctrl-C is no error.
    """

    def note(error: object, where: str) -> None:
        if isinstance(error, Exception):
            report(error, where)

    def in_asyncio(given: Given, _named: dict[str, Any]) -> None:
        # This may run in whatever drops the last reference to a task.
        failed: dict[str, Any] = given[1]
        _context_of(failed).run(note, failed.get("exception"), "asyncio")

    patch(undo, sys, "excepthook", lambda given, _named: note(given[1], "main"))
    patch(undo, threading, "excepthook", lambda given, _named: note(given[0].exc_value, "thread"))
    patch(undo, asyncio.BaseEventLoop, "call_exception_handler", in_asyncio)


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


def flush_on_sigterm(flush: Callable[[], object], timeout: float, undo: ExitStack) -> None:
    """At SIGTERM, which by default ends a process without its exit functions, flushes first.

    The handler of before is called afterwards; the default action is repeated, so that the exit
    status still shows the signal. SIGINT is left alone.
    """
    previous = signal.getsignal(signal.SIGTERM)
    wanted = _until_undone(undo)

    def handle(number: int, frame: FrameType | None) -> None:
        if wanted:
            _run_bounded(flush, timeout)
        _handle_as(previous, number, frame)

    def restore() -> None:
        # Not in the main thread: then ours stays, and only calls the one of before.
        with suppress(ValueError):
            if signal.getsignal(signal.SIGTERM) is handle:
                signal.signal(signal.SIGTERM, previous)

    try:
        if previous is None:
            raise ValueError  # somebody's handler in C, which Python can't call
        signal.signal(signal.SIGTERM, handle)
        undo.callback(restore)
    except ValueError:
        warn_once(
            "flush_on_sigterm has no effect here: it needs agentpulse.init to be called in the "
            "main thread, and no handler of SIGTERM outside Python."
        )


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


def end_with_celery_workers(undo: ExitStack) -> None:
    """Sends the last spans of workers of Celery's prefork pool, which leave by `os._exit`."""
    wanted = _until_undone(undo)

    def connect(signals: ModuleType) -> None:
        # Hooks can't be taken back, so it asks whether it is still wanted.
        with _CONNECT:
            if wanted:
                ending = signals.worker_process_shutdown
                ending.connect(_end, weak=False)
                undo.callback(_disconnect, ending)

    when_imported("celery.signals", connect)


def _disconnect(ending: Any) -> None:
    with _CONNECT:
        ending.disconnect(_end)


def _end(**_details: object) -> None:
    end_child()
