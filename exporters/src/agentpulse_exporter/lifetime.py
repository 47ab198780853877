"""The ends and forks of a process, told to objects that they don't keep alive."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable


def at_exit(method: Callable[[], None]) -> None:
    """Calls the bound method when the interpreter ends in good order."""
    _call_weakly(atexit.register, method)


def after_fork(method: Callable[[], None]) -> None:
    """Calls the bound method in each forked child, where there are any."""
    if hasattr(os, "register_at_fork"):
        _call_weakly(lambda call: os.register_at_fork(after_in_child=call), method)


def at_end_of_child(method: Callable[[], None]) -> None:
    """Calls the bound method when a child process of `multiprocessing` ends, if this is one.

    Forked ones leave by `os._exit`, past `atexit`, but after finalizers of their own. These are
    cleared when a child begins, so this must be called in the child.
    """
    processes = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if processes is not None and util is not None and processes.parent_process() is not None:
        _call_weakly(lambda call: util.Finalize(None, call, exitpriority=-100), method)


def _call_weakly(
    register: Callable[[Callable[[], None]], object], method: Callable[[], None]
) -> None:
    """Registers a bound method in a place that can't be left, without keeping its object alive."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        alive = weak()
        if alive is not None:
            alive()

    register(call)
