"""Exceptions that nobody handled, told as `error` events: main thread, threads, asyncio.

Each hook tells, then calls the one that was there before; all are put back by `restore`. A Ctrl-C
is the user's own doing, and no error.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from agentpulse_instrumentation._shield import shield

_TELL = shield("tell of an unhandled exception")

Tell = Callable[[BaseException, str], None]
"""Is given the exception and where it was: "main", "thread" or "asyncio"."""


def _context_of(told: dict[str, Any]) -> contextvars.Context | None:
    """The context of the task or callback that failed; None where there is neither.

    An empty one where Python doesn't say, as for tasks before 3.12.
    """
    source = told.get("task") or told.get("future") or told.get("handle")
    if source is None:
        return None
    given = getattr(source, "get_context", None)
    context = given() if given is not None else getattr(source, "_context", None)
    return context.copy() if isinstance(context, contextvars.Context) else contextvars.Context()


class CrashHooks:
    """The hooks, from `install` to `restore`."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._active = False

    def install(self) -> None:
        """Puts the hooks in front of those that are there."""
        self._active = True
        self._excepthook = sys.excepthook
        self._threading_hook = threading.excepthook
        self._asyncio_handler = asyncio.BaseEventLoop.call_exception_handler
        # Bound once: what is put back later is compared with it.
        self._own_excepthook = self._of_main
        self._own_threading_hook = self._of_thread
        self._own_asyncio_handler = self._asyncio_wrapper(self._asyncio_handler)
        sys.excepthook = self._own_excepthook
        threading.excepthook = self._own_threading_hook
        asyncio.BaseEventLoop.call_exception_handler = self._own_asyncio_handler

    def restore(self) -> None:
        """Puts back what was there; where somebody hooked in after us, ours lets all pass."""
        self._active = False
        if sys.excepthook is self._own_excepthook:
            sys.excepthook = self._excepthook
        if threading.excepthook is self._own_threading_hook:
            threading.excepthook = self._threading_hook
        if asyncio.BaseEventLoop.call_exception_handler is self._own_asyncio_handler:
            asyncio.BaseEventLoop.call_exception_handler = self._asyncio_handler

    def _note(self, error: BaseException | None, where: str) -> None:
        if self._active and isinstance(error, Exception):
            with _TELL:
                self._tell(error, where)

    def _of_main(
        self,
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        self._note(error, "main")
        self._excepthook(kind, error, traceback)

    def _of_thread(self, arguments: threading.ExceptHookArgs, /) -> None:
        self._note(arguments.exc_value, "thread")
        self._threading_hook(arguments)

    def _asyncio_wrapper(self, original: Callable[..., None]) -> Callable[..., None]:
        def call_exception_handler(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if self._active and isinstance(error, Exception):
                # This may run in whatever drops the last reference to a task.
                around = _context_of(context)
                if around is None:
                    self._note(error, "asyncio")
                else:
                    around.run(self._note, error, "asyncio")
            original(loop, context)

        return call_exception_handler
