"""Threads and executors that go on in the context of whoever started them.

OpenTelemetry's threading instrumentation does that too, and where it is on already, it does it.
It isn't used, because each of its versions asks for one version of OpenTelemetry's packages, by
which many an exporter or instrumentation could not be installed beside AgentPulse.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from types import ModuleType
from typing import Any

from agentpulse_instrumentation._engine.patching import when_imported
from agentpulse_instrumentation._shield import shield
from opentelemetry import context as context_api
from opentelemetry.context import Context

# Jobs of `multiprocessing.pool.ThreadPool`, each in the context of whoever asked for it.

_PATCH = shield("patch thread pools")
# What all its public methods come down to; the function is the first argument of each.
_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")


class PoolContexts:
    """The patches, from when it is made until `restore`."""

    def __init__(self) -> None:
        """Patches the module if it is imported, now or ever."""
        self._patches: list[tuple[Any, str, object]] = []
        self._wanted = True
        when_imported("multiprocessing.pool", self._patch)

    def restore(self) -> None:
        """Leaves the class as it was."""
        self._wanted = False
        while self._patches:
            pool, name, patch = self._patches.pop()
            if pool.__dict__.get(name) is patch:
                delattr(pool, name)

    def _patch(self, module: ModuleType) -> None:
        # Hooks can't be taken back, so it asks whether it is still wanted.
        pool: Any = getattr(module, "ThreadPool", None)
        if not self._wanted or pool is None or any(name in vars(pool) for name in _METHODS):
            return
        with _PATCH:
            # All of them or none, and what is missing fails nobody's import.
            patches = {name: _carrying_jobs(getattr(pool, name)) for name in _METHODS}
            for name, patch in patches.items():
                setattr(pool, name, patch)
                self._patches.append((pool, name, patch))


def _carrying_jobs(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def ask(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return method(self, in_this_context(func), *args, **kwargs)

    return ask


def in_this_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called in the context that is the current one now."""
    context = context_api.get_current()

    def job(*args: Any, **kwargs: Any) -> Any:
        token = context_api.attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            context_api.detach(token)

    return job


_CARRY = shield("carry the context to another thread")
_INSTRUMENTATION = "opentelemetry.instrumentation.threading"
# What CPython calls first in a new thread, before a `run` that its class may have of its own.
_FIRST = "_bootstrap_inner" if hasattr(threading.Thread, "_bootstrap_inner") else "run"
_KEPT = "_agentpulse_context"
"""Where a thread has the context that it was started in, until it runs."""
_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")


def _nothing() -> None:
    return None


def carry_context() -> Callable[[], None]:
    """Patches threads and executors, unless somebody did; what is returned takes it back."""
    if _is_instrumented():
        return _nothing
    patches = [
        _Patch(threading.Thread, "start", _keeping),
        _Patch(threading.Thread, _FIRST, _in_kept_context),
        _Patch(futures.ThreadPoolExecutor, "submit", _carrying),
    ]
    pools = PoolContexts()

    def restore() -> None:
        pools.restore()
        for patch in reversed(patches):
            patch.restore()

    return restore


def _is_instrumented() -> bool:
    instrumentor = getattr(sys.modules.get(_INSTRUMENTATION), "ThreadingInstrumentor", None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


class _Patch:
    """A method with something before it, from when it is made until `restore`."""

    def __init__(
        self, owner: type, name: str, before: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    ) -> None:
        """Has `before` make the positional arguments that the method gets of those given to it."""
        self._owner, self._name = owner, name
        self._original = original = getattr(owner, name)
        self._is_wanted = True

        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            if self._is_wanted:
                with _CARRY:
                    args = before(args)
            return original(*args, **kwargs)

        self._patched = patched
        setattr(owner, name, patched)

    def restore(self) -> None:
        """Leaves the class as it was; where somebody patched it since, only what is ours ends."""
        self._is_wanted = False
        if vars(self._owner).get(self._name) is self._patched:
            setattr(self._owner, self._name, self._original)


def _keeping(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Before `Thread.start`."""
    if given and isinstance(given[0], threading.Thread):
        # Past what a class of threads makes of setting an attribute.
        vars(given[0])[_KEPT] = context_api.get_current()
    return given


def _in_kept_context(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Before what a thread does first. Its own context ends with it, so nothing is put back."""
    thread: threading.Thread = given[0]
    kept = vars(thread).pop(_KEPT, None)
    if isinstance(kept, Context):
        context_api.attach(Context() if _serves_many(thread) else kept)
    return given


def _serves_many(thread: threading.Thread) -> bool:
    """Whether it is a pool's: its jobs are not those of whoever happened to start it."""
    target = vars(thread).get("_target")
    return getattr(target, "__module__", None) in _POOLS


def _carrying(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Before `ThreadPoolExecutor.submit`, whose first argument is the function."""
    if len(given) > 1 and callable(given[1]):
        return (given[0], in_this_context(given[1]), *given[2:])
    return given
