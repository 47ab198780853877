"""The spans that wait, bounded in number and in memory: the oldest give way to the newest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain
from sys import getsizeof
from typing import cast

from opentelemetry.sdk.trace import Event, ReadableSpan

MOST_TEXT = 32 * 2**20
"""Bytes of text that wait, at most, and of all else that a span may have many of."""
MOST_TEXT_AT_ONCE = 4 * 2**20
"""Bytes of text that are taken at once, on top of those that wait."""
_BYTES_OF_AN_ITEM = 32
"""Of a list or a mapping, beside its texts."""
_BYTES_OF_AN_ATTRIBUTE = 128
_BYTES_OF_AN_EVENT = 640
"""Or of a link."""
_ORDINARY_ATTRIBUTES = 24
"""So many does an ordinary span have."""


class Waiting:
    """The bounded queue. Any thread may add; one takes."""

    def __init__(self, most: int, dropped: Callable[[str], object]) -> None:
        """`most` spans wait; `dropped` gets the reason for each that gives way."""
        self._most = most
        self._dropped = dropped
        # Reentrant, because a finalizer or a signal handler may end a span on the thread that is
        # just ending one.
        self._lock = threading.RLock()
        self._spans: deque[tuple[ReadableSpan, int]] = deque()
        self._text = 0
        self.entered = 0
        """How many were ever added."""
        self.left = 0
        """How many were taken or dropped; once it is n, none of the first n that entered waits."""

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: ReadableSpan) -> int:
        """Adds a span; how many wait now."""
        text = text_of(span)
        with self._lock:
            self._spans.append((span, text))
            self.entered += 1
            self._text += text
            while len(self._spans) > self._most:
                self._drop_oldest("queue_full")
            while self._text > MOST_TEXT and len(self._spans) > 1:
                self._drop_oldest("memory_full")
            return len(self._spans)

    def take(self, most: int) -> list[ReadableSpan]:
        """The oldest, in order: one, and as many more as may be taken at once."""
        taken: list[ReadableSpan] = []
        with self._lock:
            least = self._text - MOST_TEXT_AT_ONCE
            # A finalizer that ends a span meanwhile may drop some of those that are still queued.
            while len(taken) < most and self._spans and (not taken or self._text > least):
                taken.append(self._leave())
        return taken

    def _drop_oldest(self, reason: str) -> None:
        self._leave()
        self._dropped(reason)

    def _leave(self) -> ReadableSpan:
        span, text = self._spans.popleft()
        self.left += 1
        self._text -= text
        return span


def text_of(span: ReadableSpan) -> int:
    """About how many bytes a span takes beyond an ordinary one: its texts, and all it has many of.

    Never raises: of somebody's own kind of span that can't be measured, nothing counts.
    """
    try:
        size = _of_value(span.name) + _of_value(span.status.description)
        for part in (*span.events, *span.links):
            name = part.name if isinstance(part, Event) else ""
            size += _BYTES_OF_AN_EVENT + _of_value(name) + _of_attributes(part.attributes)
        return size + _of_attributes(span.attributes)
    except Exception:  # noqa: BLE001  # a span that ends is none of the program's concern
        return 0


def _of_attributes(attributes: Mapping[str, object] | None) -> int:
    if not attributes:
        return 0
    size = _BYTES_OF_AN_ATTRIBUTE * max(len(attributes) - _ORDINARY_ATTRIBUTES, 0)
    for name, value in attributes.items():
        size += len(name)
        if isinstance(value, str) and value.isascii():
            size += len(value)
        elif not isinstance(value, int | float):
            size += _of_value(value)
    return size


def _of_value(value: object) -> int:
    if isinstance(value, str):
        # Beyond ASCII, Python keeps up to four bytes a character.
        return len(value) if value.isascii() else getsizeof(value)
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, Mapping):
        items = chain.from_iterable(cast("Mapping[object, object]", value).items())
    elif isinstance(value, tuple | list):
        items = cast("list[object]", value)
    else:
        return 0
    return sum(_BYTES_OF_AN_ITEM + _of_value(item) for item in items)
