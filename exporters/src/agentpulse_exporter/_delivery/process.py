"""Calls of objects at the ends and forks of a process, which don't keep them alive."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

_begins: list[Callable[[], None]] = []
_ends: list[Callable[[], None]] = []
"""Called when a child ends."""


def at_exit(method: Callable[[], None]) -> None:
    """Calls the bound method when the interpreter ends in good order."""
    _call_weakly(atexit.register, method)


def after_fork(method: Callable[[], None]) -> None:
    """Calls the bound method in each forked child, where there are any."""
    if hasattr(os, "register_at_fork"):
        _call_weakly(lambda call: os.register_at_fork(after_in_child=call), method)


def at_end_of_child(end: Callable[[], None], begin: Callable[[], None] | None = None) -> None:
    """Calls the bound methods when a forked child process ends, this one or any that it forks.

    Those of `multiprocessing` end by `os._exit`, past `atexit`. Every `begin` is called before the
    first `end`, so that what they start runs at the same time.
    """
    if begin is not None:
        _call_weakly(_begins.append, begin)
    _call_weakly(_ends.append, end)
    _multiprocessing.hook()


def end_child() -> None:
    """Calls the methods of `at_end_of_child`, where a child is about to end in another way."""
    for call in (*_begins, *_ends):
        call()


class _Multiprocessing:
    """`multiprocessing`, which calls at the end of its forked children, once it is imported."""

    _is_found = False

    def hook(self) -> None:
        util: Any = sys.modules.get("multiprocessing.util")
        process: Any = sys.modules.get("multiprocessing.process")
        if not hasattr(util, "register_after_fork") or not hasattr(process, "parent_process"):
            return  # it isn't, or not as a whole so far
        if not self._is_found:
            self._is_found = True
            # A child first clears all finalizers, then calls this. One of a fork server has run
            # the program's module by then, and `init` with it.
            util.register_after_fork(self, _Multiprocessing._in_child)
        if process.parent_process() is not None:
            self._in_child()

    def _in_child(self) -> None:
        sys.modules["multiprocessing.util"].Finalize(None, end_child, exitpriority=-100)


_multiprocessing = _Multiprocessing()
if hasattr(os, "register_at_fork"):
    # It may have been imported since, and its child has yet to begin as one.
    os.register_at_fork(after_in_child=_multiprocessing.hook)


def _call_weakly(
    register: Callable[[Callable[[], None]], object], method: Callable[[], None]
) -> None:
    """Registers a bound method for good, without keeping its object alive."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        alive = weak()
        if alive is not None:
            alive()

    register(call)
