"""A flag that can be waited for."""

from __future__ import annotations

import queue


class Interrupt:
    """Like `threading.Event`, but `set` may be called in a signal handler or a finalizer.

    An Event has a lock that Python code holds: a handler that comes while its own thread holds it
    waits for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Raises the flag for good, and ends the waits."""
        self._is_set = True
        self._waiters.put(None)

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Waits for the flag, at most so long; says whether it is up."""
        if not self._is_set:
            try:
                self._waiters.get(timeout=max(seconds, 0.0))
            except queue.Empty:
                return False
            # The next one to wait takes it from here.
            self._waiters.put(None)
        return True
