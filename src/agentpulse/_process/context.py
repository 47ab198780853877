"""Threads, executors and thread pools that run in the context of the code that started them.

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

_CARRY = shield("carry the context to another thread")
_INSTRUMENTATION = "opentelemetry.instrumentation.threading"
# CPython calls this first in a new thread, before a `run` that its class may have of its own.
_FIRST = "_bootstrap_inner" if hasattr(threading.Thread, "_bootstrap_inner") else "run"
_KEPT = "_agentpulse_context"
"""The attribute of a thread with the context that it was started in, until it runs."""
_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
_POOL_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""All public methods of a `ThreadPool` call one of these; the function is their first argument."""


def carry_context() -> Callable[[], None]:
    """Patches threads, executors and pools, unless somebody did; the result takes it back."""
    instrumentor = getattr(sys.modules.get(_INSTRUMENTATION), "ThreadingInstrumentor", None)
    if instrumentor is not None and instrumentor().is_instrumented_by_opentelemetry:
        return lambda: None
    patches = [
        _Patch(threading.Thread, "start", _keeping),
        _Patch(threading.Thread, _FIRST, _in_kept_context),
        _Patch(futures.ThreadPoolExecutor, "submit", _carrying),
    ]
    wanted = [True]

    def patch_pools(module: ModuleType) -> None:
        # Hooks can't be taken back, so it asks whether it is still wanted.
        pool: Any = getattr(module, "ThreadPool", None)
        if wanted and all(hasattr(pool, name) for name in _POOL_METHODS):
            with _CARRY:
                patches.extend(_Patch(pool, name, _carrying) for name in _POOL_METHODS)

    when_imported("multiprocessing.pool", patch_pools)

    def restore() -> None:
        wanted.clear()
        while patches:
            patches.pop().restore()

    return restore


class _Patch:
    """A method with a function called before it, from when it is made until `restore`."""

    def __init__(
        self, owner: type, name: str, before: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    ) -> None:
        """Has `before` make the positional arguments that the method gets of those given to it."""
        self._owner, self._name = owner, name
        self._is_inherited = name not in vars(owner)
        self._original = original = getattr(owner, name)
        self._is_wanted = True

        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            if self._is_wanted:
                with _CARRY:
                    args = before(args, kwargs)
            return original(*args, **kwargs)

        self._patched = patched
        setattr(owner, name, patched)

    def restore(self) -> None:
        """Restores the class; where somebody patched it since, ours stays and does nothing."""
        self._is_wanted = False
        if vars(self._owner).get(self._name) is not self._patched:
            return
        if self._is_inherited:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._original)


def _keeping(given: tuple[Any, ...], _named: dict[str, Any]) -> tuple[Any, ...]:
    """Before `Thread.start`."""
    if given and isinstance(given[0], threading.Thread):
        # A class of threads may have a `__setattr__` of its own.
        vars(given[0])[_KEPT] = context_api.get_current()
    return given


def _in_kept_context(given: tuple[Any, ...], _named: dict[str, Any]) -> tuple[Any, ...]:
    """Before a thread's first method. Its own context ends with it, so nothing is put back."""
    thread: threading.Thread = given[0]
    kept = vars(thread).pop(_KEPT, None)
    if isinstance(kept, Context):
        # The jobs of a pool's thread are not those of the code that happened to start it.
        is_of_pool = getattr(vars(thread).get("_target"), "__module__", None) in _POOLS
        context_api.attach(Context() if is_of_pool else kept)
    return given


def _carrying(given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
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
