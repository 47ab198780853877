"""Jobs of `multiprocessing.pool.ThreadPool`, each in the context of whoever asked for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from agentpulse_instrumentation.imports import when_imported
from agentpulse_instrumentation.shield import shield
from opentelemetry import context as context_api

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
            patches = {name: _carrying(getattr(pool, name)) for name in _METHODS}
            for name, patch in patches.items():
                setattr(pool, name, patch)
                self._patches.append((pool, name, patch))


def _carrying(method: Callable[..., Any]) -> Callable[..., Any]:
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
