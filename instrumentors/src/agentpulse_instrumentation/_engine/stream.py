"""Streams are instrumented in place: the caller keeps the client's stream, our iterator inside.

So `isinstance`, `.response`, `.close()`, `with`, and helpers that read past a proxy keep working.
The stream is current in no context while the caller's loop body runs, and nothing is read before
the caller asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter
from typing import Any, cast
from weakref import ref

from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import Accumulator, reported_error
from agentpulse_instrumentation._engine.usage import UsageChunk
from agentpulse_instrumentation._shield import shield

# Watching one HTTP response object: methods are replaced on the object, and taken off it again.
#
# The replacements hold the response weakly: a cycle would leave the connection of a dropped
# response to the garbage collector.

_REPLACED = ("close", "aclose", "iter_bytes", "aiter_bytes")


def watch_close(response: Any, closed: Callable[[], None]) -> None:
    """Calls `closed` after the response was closed, by the caller or by the client at its end."""
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


def watch_bytes(response: Any, take: Callable[[bytes], None]) -> None:
    """Calls `take`, which raises nothing, with the bytes of the body as they are read."""
    weak = ref(response)
    kind = cast("Any", type(response))

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        for chunk in kind.iter_bytes(weak(), chunk_size):
            take(chunk)
            yield chunk

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in kind.aiter_bytes(weak(), chunk_size):
            take(chunk)
            yield chunk

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes


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
        is_done: Whether the server said that the stream is over (`data: [DONE]`).
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

    def take(self, chunk: bytes) -> None:
        """Takes the next bytes. Microseconds count here."""
        self.first = self.first or chunk
        self._last = self._last[-_KEPT:] + chunk

    @property
    def is_done(self) -> bool:
        """As that of `EventDecoder`: clients tell nobody of it."""
        return _DONE_LINE.search(self._last) is not None


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
        """`ending` knows whether the server said so at the end of the stream, where it does.

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
        invocation.unfinished.add(self)

    @property
    def add(self) -> Callable[[Any], bool]:
        """What takes each chunk and says whether the caller sees it. To be asked for once a stream.

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
        self._invocation.unfinished.discard(self)
        self.left()


def observed(iterator: Any, observer: Observer) -> Iterator[Any]:
    """A stream's iterator, observed."""
    add = observer.add
    try:
        for chunk in iterator:
            if add(chunk):
                yield chunk
    except GeneratorExit:
        observer.left()
        raise
    except BaseException as error:
        observer.broken(error)
        raise
    observer.exhausted()


async def aobserved(iterator: Any, observer: Observer) -> AsyncIterator[Any]:
    """The async twin."""
    add = observer.add
    try:
        async for chunk in iterator:
            if add(chunk):
                yield chunk
    except GeneratorExit:
        observer.left()
        raise
    except BaseException as error:
        observer.broken(error)
        raise
    observer.exhausted()


def observe_stream(stream: Any, invocation: Invocation, hidden: UsageChunk | None) -> None:
    """Puts an observed iterator into a client's stream object.

    Closing a stream only closes its response, so that is watched too.
    """
    ending = Ending()
    observer = Observer(invocation, ending, hidden)
    observe = aobserved if _is_async(stream) else observed
    iterator = observe(stream._iterator, observer)  # noqa: SLF001  # `_streaming.py` of both
    stream._iterator = iterator  # noqa: SLF001  # the same
    # Weakly: the observer is to end with the iterator, and ends the span of one never read.
    weak_observer, weak_iterator, weak_response = ref(observer), ref(iterator), ref(stream.response)

    def closed() -> None:
        observer, iterator = weak_observer(), weak_iterator()
        # The client's generator closes the response itself when it ends or fails, and we are told
        # right after.
        if observer is not None and not (iterator is not None and is_running(iterator)):
            observer.left()
        release(weak_response())

    watch_close(stream.response, closed)
    # The client reads the bytes by these, and passes over the event that ends a stream.
    watch_bytes(stream.response, ending.take)


def _is_async(stream: object) -> bool:
    return hasattr(type(stream), "__anext__")


def is_running(iterator: Any) -> bool:
    """Whether a generator is in the middle of a step right now."""
    return bool(getattr(iterator, "gi_running", False) or getattr(iterator, "ag_running", False))
