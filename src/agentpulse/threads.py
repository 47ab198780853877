"""Threads and executors that go on in the context of whoever started them.

Done by the threading instrumentor of OpenTelemetry, with two things added: a thread whose class has
a `run` of its own is covered too, and what is taken back leaves `threading.Timer` as it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.threading import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    ThreadingInstrumentor,
)

from agentpulse.pools import PoolContexts

_FIRST_OF_A_THREAD = "_bootstrap_inner"
"""What CPython 3.11 to 3.13 call first in a new thread, before `run`."""
_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
_PATCHED = (
    (threading.Thread, "start"),
    (threading.Thread, "run"),
    (threading.Thread, _FIRST_OF_A_THREAD),
    (threading.Timer, "start"),
    (threading.Timer, "run"),
    (futures.ThreadPoolExecutor, "submit"),
)


def _nothing() -> None:
    return None


def carry_context() -> Callable[[], None]:
    """Patches threads and executors, unless somebody did; what is returned takes it back."""
    instrumentor = ThreadingInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        return _nothing
    before: list[tuple[Any, str, Any]] = [
        (owner, name, vars(owner).get(name)) for owner, name in _PATCHED
    ]
    instrumentor.instrument()
    pools = PoolContexts()
    first = vars(threading.Thread).get(_FIRST_OF_A_THREAD)
    if first is not None:
        setattr(threading.Thread, _FIRST_OF_A_THREAD, _in_context(first))

    def restore() -> None:
        instrumentor.uninstrument()
        pools.restore()
        for owner, name, original in before:
            if original is not None:
                setattr(owner, name, original)
            elif name in vars(owner):
                delattr(owner, name)

    return restore


def _serves_many(thread: threading.Thread) -> bool:
    """Whether it is a pool's: its jobs are not those of whoever happened to start it."""
    target = vars(thread).get("_target")
    return getattr(target, "__module__", None) in _POOLS


def _in_context(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def first(thread: threading.Thread) -> None:
        # What the instrumentor keeps when the thread is started, and uses in `Thread.run` only.
        # The thread's own context ends with it, so nothing is put back.
        context = vars(thread).get("_otel_context")
        if isinstance(context, Context):
            if _serves_many(thread):
                context = vars(thread)["_otel_context"] = Context()
            context_api.attach(context)
        original(thread)

    return first
