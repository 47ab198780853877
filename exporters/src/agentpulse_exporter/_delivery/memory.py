"""The spans that wait, bounded in number and in memory: the oldest give way to the newest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from sys import getsizeof
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter._delivery.stats import Tally

MOST_TEXT = 32 * 2**20
"""Bytes of text that wait, at most, and of all else that a span may have many of."""
MOST_BYTES = 64 * 2**20
"""Bytes of spans that wait, texts included; more where `max_queue_size` ordinary ones take more."""
MOST_TEXT_AT_ONCE = 4 * 2**20
"""Bytes of text that are taken at once, on top of those that wait."""
_BYTES_OF_A_SPAN = 4608
"""Of a span beside its texts, as measured with some twenty attributes."""
_TEXT_OF_AN_ORDINARY_SPAN = 1024
_BYTES_OF_A_TEXT_IN_A_LIST = 64
_BYTES_OF_A_NUMBER = 32
_BYTES_OF_AN_ATTRIBUTE = 128
_BYTES_OF_AN_EVENT = 512
_BYTES_OF_A_LINK = 768
_ORDINARY_ATTRIBUTES = 24
"""Attributes whose bytes are among those of a span."""
_LONGEST_ORDINARY_NAME = 64
_DEEPEST = 4


class Waiting:
    """The bounded queue. Any thread may add; one takes."""

    def __init__(self, most: int, dropped: Callable[[str], object]) -> None:
        """`most` spans wait; `dropped` gets the reason for each that gives way."""
        self._most = most
        self._most_bytes = max(MOST_BYTES, most * (_BYTES_OF_A_SPAN + _TEXT_OF_AN_ORDINARY_SPAN))
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
        text = text_of(span)
        with self._lock:
            self._spans.append((span, text))
            self._entered.add()
            self._text += text
            while len(self._spans) > self._most:
                self._drop_oldest("queue_full")
            while self._is_too_large() and len(self._spans) > 1:
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

    def _is_too_large(self) -> bool:
        total = len(self._spans) * _BYTES_OF_A_SPAN + self._text
        return self._text > MOST_TEXT or total > self._most_bytes

    def _drop_oldest(self, reason: str) -> None:
        self._leave()
        self._dropped(reason)

    def _leave(self) -> ReadableSpan:
        span, text = self._spans.popleft()
        self._left += 1
        self._text -= text
        return span


def text_of(span: ReadableSpan) -> int:
    """About how many bytes a span takes beyond an ordinary one: its texts, and all it has many of.

    Never raises: a part that can't be measured, of somebody's own kind of span, counts for nothing.
    """
    size = 0
    try:
        size += _of_text(span.name) + _in_attributes(span.attributes)
        for event in span.events:
            size += _BYTES_OF_AN_EVENT + _of_text(event.name) + _in_attributes(event.attributes)
        for link in span.links:
            size += _BYTES_OF_A_LINK + _in_attributes(link.attributes)
        if span.status.description is not None:
            size += _of_text(span.status.description)
    except Exception:  # noqa: BLE001  # a span that ends is none of the program's concern
        return size
    return size


def _in_attributes(attributes: Mapping[str, object] | None) -> int:
    if not attributes:
        return 0
    size = _BYTES_OF_AN_ATTRIBUTE * max(len(attributes) - _ORDINARY_ATTRIBUTES, 0)
    for name, value in attributes.items():
        if len(name) > _LONGEST_ORDINARY_NAME:
            size += len(name)
        if isinstance(value, str):
            size += _of_text(value)
        elif not isinstance(value, int | float):
            size += _of_value(value, _DEEPEST)
    return size


def _of_value(value: object, depth: int) -> int:
    if isinstance(value, str):
        return _BYTES_OF_A_TEXT_IN_A_LIST + _of_text(value)
    if isinstance(value, bytes | bytearray):
        return _BYTES_OF_A_TEXT_IN_A_LIST + len(value)
    if not depth:
        return _BYTES_OF_AN_ATTRIBUTE
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return sum(
            _BYTES_OF_AN_ATTRIBUTE + _of_value(name, 0) + _of_value(each, depth - 1)
            for name, each in pairs
        )
    if isinstance(value, tuple | list):
        return sum(_of_value(each, depth - 1) for each in cast("list[object]", value))
    return _BYTES_OF_A_NUMBER


def _of_text(text: str) -> int:
    # Beyond ASCII, Python keeps up to four bytes a character.
    return len(text) if text.isascii() else getsizeof(text)
