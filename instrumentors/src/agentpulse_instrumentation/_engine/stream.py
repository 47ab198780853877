"""Streams are instrumented in place: the caller keeps the client's stream, our iterator inside.

So `isinstance`, `.response`, `.close()`, `with`, and helpers that read past a proxy keep working.
The stream is current in no context while the caller's loop body runs, and nothing is read before
the caller asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, nullcontext
from time import perf_counter
from typing import Any, Protocol, cast
from weakref import ref

from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import Accumulator, reported_error
from agentpulse_instrumentation._engine.usage import UsageChunk
from agentpulse_instrumentation._shield import shield


class Watcher(Protocol):
    """Sees what an iterator gives, and how that ends. Its methods raise nothing."""

    @property
    def add(self) -> Callable[[Any], bool]:
        """Takes each item, and returns whether the caller sees it."""
        ...

    def exhausted(self) -> None:
        """The iterator came to its end."""

    def left(self) -> None:
        """The caller closed or dropped it."""

    def broken(self, error: BaseException) -> None:
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


_REPLACED = ("close", "aclose", "iter_bytes", "aiter_bytes")


def watch(response: Any, watcher: Watcher, closed: Callable[[], None]) -> None:
    """Watches the bytes of an HTTP response as they are read; calls `closed` when it was closed.

    Methods are replaced on the one object. They hold it weakly: a cycle would leave the connection
    of a dropped response to the garbage collector.
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

    def closed_outside() -> None:
        # The HTTP client closes a response from inside the read that reaches its end, and that read
        # reports.
        if not any(is_running(each()) for each in reading):
            closed()

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
    _watch_close(response, closed_outside)


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


def release(response: Any | None) -> None:
    """Makes the response what it was: pickling it must not meet attributes of ours."""
    if response is None:
        return
    for name in _REPLACED:
        response.__dict__.pop(name, None)


# Server-sent events, from the bytes of a body as they come.
#
# The format: https://html.spec.whatwg.org/multipage/server-sent-events.html.

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
        """Takes the next bytes and gives the events that they complete."""
        self.first = self.first or chunk
        # A lone CR also ends a line by the standard; no provider sends it, and CRLF ends in LF.
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_EVENT else b""
        for line in lines:
            event = self._line(line.rstrip(b"\r"))
            if event is not None:
                yield event

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= LONGEST_EVENT:
                self._data.append(line[5:].lstrip(b" "))
            return None
        if line:
            return None
        data, size = b"\n".join(self._data), self._size
        self._data, self._size = [], 0
        if not data or size > LONGEST_EVENT:
            return None
        self.is_done = self.is_done or data.startswith(_DONE)
        try:
            event = json.loads(data)
        except ValueError:
            return None
        return cast("dict[str, Any]", event) if isinstance(event, dict) else None


def is_ping(event: dict[str, Any]) -> bool:
    """Whether an event only keeps the connection open; Anthropic's client hides these."""
    return event.get("type") == "ping"


class Ending:
    """The first and the last bytes of a body whose events the client decodes.

    Attributes:
        first: As that of `EventDecoder`.
    """

    __slots__ = ("_last", "first")

    def __init__(self) -> None:
        self.first = b""
        self._last = b"\n"

    def add(self, chunk: bytes) -> bool:
        """Takes the next bytes. Microseconds count here."""
        self.first = self.first or chunk
        self._last = self._last[-_KEPT:] + chunk
        return True

    @property
    def is_done(self) -> bool:
        """As that of `EventDecoder`: clients pass over the event that ends a stream."""
        return _DONE_LINE.search(self._last) is not None

    def exhausted(self) -> None:
        """The client reports its stream."""

    left = exhausted

    def broken(self, error: BaseException) -> None:
        """As it does what broke it."""


CHUNKS_AT_ONCE = 32

_READ_CHUNKS = shield("read chunks")


class Observer:
    """Watches one stream for one invocation, whichever of sync and async it is.

    Chunks are read some at a time: each chunk that is read by itself, between the work of client
    and caller, finds the processor's caches cold and takes three times as long.
    """

    __slots__ = (
        *("__weakref__", "_accumulator", "_ending", "_hidden", "_invocation"),
        *("_last", "_pending", "_times"),
    )

    def __init__(
        self,
        invocation: Invocation,
        ending: EventDecoder | Ending | None = None,
        hidden: UsageChunk | None = None,
    ) -> None:
        """`ending` knows whether the server declared the stream over.

        `hidden` knows the chunk that the caller will not see.
        """
        self._invocation = invocation
        self._ending = ending or Ending()
        self._hidden = hidden
        self._last: Any = None
        make = invocation.operation.accumulator
        self._accumulator: Accumulator | None = make(invocation.keeps_content) if make else None
        self._pending: list[Any] = []
        self._times = invocation.chunk_times()
        invocation.recording.unfinished.add(self)

    @property
    def add(self) -> Callable[[Any], bool]:
        """Takes each chunk, and returns whether the caller sees it. To be asked for once a stream.

        Never raises.
        """
        return self._add if self._times is None else self._add_timed

    def _add_timed(self, chunk: Any) -> bool:
        at = perf_counter()
        is_shown = self._add(chunk)
        if is_shown and self._times is not None:
            self._times.arrived(at)
        return is_shown

    def _add(self, chunk: Any) -> bool:
        pending = self._pending
        if not pending:
            self._invocation.chunk_arrived()
        pending.append(chunk)
        if len(pending) == CHUNKS_AT_ONCE:
            self._read()
        return self._hidden is None or not self._hidden.takes(chunk, self._has_finished)

    def _has_finished(self) -> bool:
        self._read()
        return self._accumulator is not None and self._accumulator.is_complete()

    def exhausted(self, failure: str | None = None) -> None:
        """The stream came to its end, or to an event that reported a `failure`."""
        self._read()
        with _READ_CHUNKS:
            failure = failure or reported_error(self._last)
            if self._last is None:
                # An error in place of a stream.
                failure = failure or reported_error(json_object(self._ending.first))
        self._end(failure=failure)

    def left(self, failure: str | None = None) -> None:
        """The caller closed or dropped the stream."""
        if self._invocation.is_open:
            self._read()
            self._end(left=True, failure=failure)

    def broken(self, error: BaseException) -> None:
        """Reading raised."""
        self._read()
        self._end(error=error)

    def _end(self, **how: Any) -> None:
        self._invocation.streamed(self._accumulator, is_done=self._ending.is_done, **how)

    def _read(self) -> None:
        pending, self._pending = self._pending, []
        if not self._invocation.is_open:
            return
        if pending:
            self._last = pending[-1]
        if self._accumulator is not None:
            with _READ_CHUNKS:
                for chunk in pending:
                    self._accumulator.add(chunk)
        if self._times is not None:
            self._times.record(self._accumulator)

    def __del__(self) -> None:
        self._invocation.recording.unfinished.discard(self)
        self.left()


def observe_stream(stream: Any, invocation: Invocation, hidden: UsageChunk | None) -> None:
    """Puts an observed iterator into a client's stream object.

    Closing a stream only closes its response, so that is watched too.
    """
    ending = Ending()
    observer = Observer(invocation, ending, hidden)
    observe: Any = aobserved if hasattr(stream, "__anext__") else observed
    iterator = observe(stream._iterator, observer)  # noqa: SLF001  # `_streaming.py` of both
    stream._iterator = iterator  # noqa: SLF001  # the same
    # Weakly: the observer is to end with the iterator, and ends the span of one never read.
    weak_observer, weak_iterator, weak_response = ref(observer), ref(iterator), ref(stream.response)

    def closed() -> None:
        observer = weak_observer()
        # The client's generator closes the response itself when it ends or fails, and reports that
        # right after.
        if observer is not None and not is_running(weak_iterator()):
            observer.left()
        release(weak_response())

    watch(stream.response, ending, closed)


def is_running(iterator: Any) -> bool:
    """Whether a generator is in the middle of a step right now."""
    return bool(getattr(iterator, "gi_running", False) or getattr(iterator, "ag_running", False))
