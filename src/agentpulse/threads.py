"""Threads and executors that go on in the context of whoever started them.

Done by the threading instrumentor of OpenTelemetry. It leaves `threading.Timer` with a patch when
it is taken back, so what was there before is put back here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from opentelemetry.instrumentation.threading import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    ThreadingInstrumentor,
)

_PATCHED = (
    (threading.Thread, "start"),
    (threading.Thread, "run"),
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

    def restore() -> None:
        instrumentor.uninstrument()
        for owner, name, original in before:
            if original is not None:
                setattr(owner, name, original)
            elif name in vars(owner):
                delattr(owner, name)

    return restore
