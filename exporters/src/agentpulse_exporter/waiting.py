"""The bounded queue of spans that wait to be sent: the oldest give way to the newest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter.counters import Tally

MOST_TEXT = 32 * 2**20
"""Characters of attributes that wait, at most; the oldest spans go first."""
_SIZE_OF_A_SPAN = 512


class WaitingSpans:
    """Any thread may add; one takes."""

    def __init__(self, most: int, dropped: Callable[[str], object]) -> None:
        """`most` spans wait; `dropped` is told the reason for each that gives way."""
        self._most = most
        self._dropped = dropped
        # Reentrant, because a finalizer or a signal handler may end a span on the thread that is
        # just ending one.
        self._lock = threading.RLock()
        self._spans: deque[tuple[ReadableSpan, int]] = deque()
        self._text = 0
        self._entered = Tally()
        self._left = 0

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def entered(self) -> int:
        """How many were ever added."""
        return self._entered.value()

    @property
    def left(self) -> int:
        """How many were taken or dropped; once it is n, none of the first n that entered waits."""
        return self._left

    def add(self, span: ReadableSpan) -> int:
        """Adds a span; how many wait now."""
        size = _size_of(span)
        with self._lock:
            self._spans.append((span, size))
            self._entered.add()
            self._text += size
            while len(self._spans) > self._most:
                self._drop_oldest("queue_full")
            while self._text > MOST_TEXT and len(self._spans) > 1:
                self._drop_oldest("memory_full")
            return len(self._spans)

    def take(self, most: int) -> list[ReadableSpan]:
        """The oldest, in order."""
        taken: list[ReadableSpan] = []
        with self._lock:
            # A finalizer that ends a span meanwhile may drop some of those that are still queued.
            while len(taken) < most and self._spans:
                taken.append(self._leave())
        return taken

    def _drop_oldest(self, reason: str) -> None:
        self._leave()
        self._dropped(reason)

    def _leave(self) -> ReadableSpan:
        span, size = self._spans.popleft()
        self._left += 1
        self._text -= size
        return span


def _size_of(span: ReadableSpan) -> int:
    """About how much memory the texts of a span take, in characters."""
    size = _SIZE_OF_A_SPAN
    for value in (span.attributes or {}).values():
        if isinstance(value, str):
            size += len(value)
    return size
