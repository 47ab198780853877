"""Bodies of HTTP responses, watched while they are read, and the events that are in them.

Nothing is read before the caller asks, and the response stays the object that it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, nullcontext
from typing import Any, Protocol, cast
from weakref import ref


class Watcher(Protocol):
    """Sees what an iterator gives, and how that ends. Its methods raise nothing."""

    def add(self, chunk: Any, /) -> bool:
        """Takes each item, and returns whether the caller sees it. Microseconds count here."""
        ...

    def exhausted(self) -> None:
        """The iterator came to its end."""

    def left(self) -> None:
        """The caller closed or dropped it."""

    def broken(self, error: BaseException, /) -> None:
        """It raised."""


def observed(iterator: Iterator[Any], watcher: Watcher) -> Iterator[Any]:
    """An iterator, watched."""
    add = watcher.add
    try:
        for chunk in iterator:
            if add(chunk):
                yield chunk
    except GeneratorExit:
        watcher.left()
        raise
    except BaseException as error:
        watcher.broken(error)
        raise
    watcher.exhausted()


async def aobserved(iterator: Any, watcher: Watcher) -> AsyncIterator[Any]:
    """The async twin. A generator is closed with it, in the task that closes it."""
    add = watcher.add
    try:
        async with aclosing(iterator) if hasattr(iterator, "aclose") else nullcontext():
            async for chunk in iterator:
                if add(chunk):
                    yield chunk
    except GeneratorExit:
        watcher.left()
        raise
    except BaseException as error:
        watcher.broken(error)
        raise
    watcher.exhausted()


def is_running(iterator: Any) -> bool:
    """Whether a generator is in the middle of a step right now."""
    return bool(getattr(iterator, "gi_running", False) or getattr(iterator, "ag_running", False))


_REPLACED = ("close", "aclose", "iter_bytes", "aiter_bytes")


def watch(response: Any, watcher: Watcher, closed: Callable[[], None] | None = None) -> None:
    """Watches the bytes of an HTTP response as they are read; `left`, or `closed`, when it closes.

    All ways to read it (`read`, `json`, `iter_lines`, `parse`) pass by its byte iterators. Methods
    are replaced on the one object. They hold it weakly: a cycle would leave the connection of a
    dropped response to the garbage collector.
    """
    weak = ref(response)
    kind = cast("Any", type(response))
    reading: list[Any] = []

    def noted(iterator: Any) -> Any:
        reading[:] = [ref(iterator)]
        return iterator

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        return noted(observed(kind.iter_bytes(weak(), chunk_size), watcher))

    def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        return noted(aobserved(kind.aiter_bytes(weak(), chunk_size), watcher))

    def ended() -> None:
        # The HTTP client closes a response from inside the read that reaches its end, and that read
        # reports.
        if not any(is_running(each()) for each in reading):
            (closed or watcher.left)()
        release(weak())

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
    _watch_close(response, ended)


def _watch_close(response: Any, closed: Callable[[], None]) -> None:
    weak = ref(response)
    kind = cast("Any", type(response))

    def close() -> None:
        target = weak()
        try:
            if target is not None:
                kind.close(target)
        finally:
            closed()

    async def aclose() -> None:
        target = weak()
        try:
            if target is not None:
                await kind.aclose(target)
        finally:
            closed()

    response.close, response.aclose = close, aclose


def release(response: Any | None) -> None:
    """Makes the response what it was: pickling it must not meet attributes of ours."""
    for name in _REPLACED:
        getattr(response, "__dict__", {}).pop(name, None)


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that JSON stands for; None where it stands for none, or is no JSON."""
    start = text.lstrip()[:1]
    if start != (b"{" if isinstance(start, bytes) else "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

LONGEST_EVENT = 8 * 2**20
"""Bytes that are held while an event is incomplete; a longer event is let go."""
_DONE = b"[DONE]"
_DONE_LINE = re.compile(rb"\ndata: ?\[DONE\]")
_KEPT = 64
"""Bytes of what came before, for a line that comes in pieces, or before the last empty ones."""


class EventDecoder:
    """Cuts bytes into events and gives the JSON object in their data; others are passed over.

    Attributes:
        first: The bytes that came first: all of them, where the body is no stream but small.
        is_done: Whether the server declared the stream over (`data: [DONE]`).
    """

    __slots__ = ("_data", "_rest", "_size", "first", "is_done")

    def __init__(self) -> None:
        self.first = b""
        self.is_done = False
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Takes the next bytes and gives the events that they complete, but for pings."""
        self.first = self.first or chunk
        # A lone CR also ends a line by the standard; no provider sends it, and CRLF ends in LF.
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_EVENT else b""
        for line in lines:
            event = self._line(line.rstrip(b"\r"))
            # Anthropic's client hides the events that only keep the connection open.
            if event is not None and event.get("type") != "ping":
                yield event

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= LONGEST_EVENT:
                self._data.append(line[5:].lstrip(b" "))
        if line:
            return None
        data, size = b"\n".join(self._data), self._size
        self._data, self._size = [], 0
        self.is_done = self.is_done or data.startswith(_DONE)
        return json_object(data) if size <= LONGEST_EVENT else None


class Ending(Watcher):
    """The first and the last bytes of a body whose events the client decodes, and reports.

    Attributes:
        first: As that of `EventDecoder`.
    """

    def __init__(self) -> None:
        self.first = b""
        self._last = b"\n"

    def add(self, chunk: bytes, /) -> bool:
        """Takes the next bytes."""
        self.first = self.first or chunk
        self._last = self._last[-_KEPT:] + chunk
        return True

    @property
    def is_done(self) -> bool:
        """As that of `EventDecoder`: clients pass over the event that ends a stream."""
        return _DONE_LINE.search(self._last) is not None
