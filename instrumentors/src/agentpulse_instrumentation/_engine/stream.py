"""Answers that come in pieces: observed while the caller reads them, never read on their behalf.

Streams are instrumented in place: the caller keeps the client's stream, our iterator inside. So
`isinstance`, `.response`, `.close()`, `with`, and helpers that read past a proxy keep working. The
stream is current in no context while the caller's loop body runs.

`with_raw_response` hands out an answer whose body the HTTP client has in memory already; we look at
a copy of it. `with_streaming_response`, and a stream asked for raw, hand out an open body, whose
bytes are watched.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, nullcontext
from time import perf_counter
from typing import Any, Protocol, cast
from weakref import ref

from agentpulse_instrumentation._engine.body import EventDecoder, json_object
from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import reported_error
from agentpulse_instrumentation._engine.patching import shield

CHUNKS_AT_ONCE = 32
LARGEST_BODY = 16 * 2**20
"""Bytes of a JSON answer kept for reading it; the usage of a larger one stays unknown."""

_READ_CHUNKS = shield("read chunks")
_READ_BODY = shield("read a body")


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
    """Yields the chunks that the watcher lets pass, and reports to it how the stream ended.

    That is by its end, by an error (which is raised), or because the caller closed it: whatever is
    raised at the `yield` is that, such as the cancelling of the task that closes it.
    """
    add, is_left = watcher.add, False
    try:
        for chunk in iterator:
            if add(chunk):
                try:
                    yield chunk
                except BaseException:
                    is_left = True
                    watcher.left()
                    # Whoever holds the iterator too would leave it open otherwise.
                    if hasattr(iterator, "close"):
                        cast("Any", iterator).close()
                    raise
    except BaseException as error:
        if not is_left:
            watcher.broken(error)
        raise
    watcher.exhausted()


async def aobserved(iterator: Any, watcher: Watcher) -> AsyncIterator[Any]:
    """Does the same for an async stream. A generator is closed by the task that closes this one."""
    add, is_left = watcher.add, False
    try:
        async with aclosing(iterator) if hasattr(iterator, "aclose") else nullcontext():
            async for chunk in iterator:
                if add(chunk):
                    try:
                        yield chunk
                    except BaseException:
                        is_left = True
                        watcher.left()
                        raise
    except BaseException as error:
        if not is_left:
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
    are replaced on the one object. They hold it until it is read, as its own methods would while
    they are called, and weakly from then on: a cycle would leave the connection of a response that
    is dropped half read to the garbage collector.
    """
    weak, unread = ref(response), [response]

    def target() -> Any:
        return unread.pop() if unread else weak()

    kind = cast("Any", type(response))
    reading: list[Any] = []

    def noted(iterator: Any) -> Any:
        reading[:] = [ref(iterator)]
        return iterator

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        return noted(observed(kind.iter_bytes(target(), chunk_size), watcher))

    def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        return noted(aobserved(kind.aiter_bytes(target(), chunk_size), watcher))

    def ended() -> None:
        # The HTTP client closes a response from inside the read that reaches its end, and that read
        # reports.
        if not any(is_running(each()) for each in reading):
            (closed or watcher.left)()
        unread.clear()
        # Pickling the response must not meet attributes of ours.
        for name in _REPLACED:
            getattr(weak(), "__dict__", {}).pop(name, None)

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
    _watch_close(response, ended)


def _watch_close(response: Any, closed: Callable[[], None]) -> None:
    weak = ref(response)
    kind = cast("Any", type(response))

    def close() -> None:
        try:
            if (target := weak()) is not None:
                kind.close(target)
        finally:
            closed()

    async def aclose() -> None:
        try:
            if (target := weak()) is not None:
                await kind.aclose(target)
        finally:
            closed()

    response.close, response.aclose = close, aclose


_DONE_LINE = re.compile(rb"\ndata: *\[DONE\]")
_KEPT = 64
"""Bytes of what came before, for a line that comes in pieces."""


class Ending(Watcher):
    """Watches the raw body beside the parsed stream: its first and its last bytes.

    The first ones may be an error in place of a stream; clients pass over `data: [DONE]`.
    """

    first: bytes = b""
    """Those that came first: all of them, where the body is no stream but small."""
    is_done: bool = False
    """Whether the server declared the stream over: clients pass over the event that does."""
    _last: bytes = b"\n"

    def add(self, chunk: bytes, /) -> bool:
        """Takes the next bytes."""
        self.first = self.first or chunk
        last = self._last + chunk
        if b"[DONE]" in last and _DONE_LINE.search(last):
            self.is_done = True
        self._last = last[-_KEPT:]
        return True


class Observer:
    """Watches one stream, sync or async, for one invocation.

    Chunks are read some at a time: each chunk that is read by itself, between the work of client
    and caller, finds the processor's caches cold and takes three times as long.
    """

    def __init__(
        self, invocation: Invocation, *, hides_usage: bool = False, at_once: int = CHUNKS_AT_ONCE
    ) -> None:
        """Observes a stream for `invocation`.

        Args:
            invocation: What it belongs to; it ends with the stream.
            hides_usage: Whether a usage chunk that we requested is hidden from the caller.
            at_once: How many chunks are read at a time: 1 for a library that gives one object again
                and again.
        """
        self._invocation: Invocation = invocation
        self._at_once = at_once
        self._hides_usage: bool = hides_usage
        self.ending: Ending = Ending()
        self._last: Any = None
        self._failure: str | None = None
        self._pending: list[Any] = []
        if (make := invocation.operation.accumulator) is not None:
            with _READ_CHUNKS:
                invocation.accumulator = make(invocation.keeps_content)
        invocation.recording.opened(self)

    def add(self, chunk: Any, /) -> bool:
        """Takes each chunk, and returns whether the caller sees it. Never raises."""
        arrivals, pending = self._invocation.arrivals, self._pending
        if arrivals is not None:
            arrivals.append(perf_counter())
        if not pending:
            self._invocation.chunk_arrived()
        pending.append(chunk)
        if len(pending) == self._at_once:
            self._read()
        if not self._hides_usage or not self._is_requested_usage(chunk):
            return True
        self._hides_usage = False
        if arrivals is not None:
            arrivals.pop()
        return False

    def _is_requested_usage(self, chunk: Any) -> bool:
        """Whether it is the usage chunk that we requested. Never raises.

        `stream_options.include_usage` adds one last chunk without choices that carries the usage,
        and the field `usage: null` to every other chunk, which is taken off these. Usage that a
        host reports before every choice has its reason to end is no answer to the option.
        """
        try:
            fields = chunk if chunk.__class__ is dict else chunk.__dict__
            if fields["usage"] is None:
                if fields is chunk:
                    del chunk["usage"]
                else:
                    chunk.__pydantic_fields_set__.discard("usage")
            elif not fields["choices"]:
                self._read()
                accumulator = self._invocation.accumulator
                return accumulator is not None and accumulator.is_complete()
        except (AttributeError, KeyError):
            pass  # a chunk of another kind, or a host that has no field for the usage
        return False

    def exhausted(self) -> None:
        """The stream came to its end."""
        self._read()
        with _READ_CHUNKS:
            # Where nothing came, there may be an error in place of a stream.
            last = json_object(self.ending.first) if self._last is None else self._last
            self._failure = self._failure or reported_error(last)
        self._end()

    def left(self) -> None:
        """The caller closed or dropped the stream."""
        if self._invocation.is_open:
            self._read()
            self._end(left=True)

    def broken(self, error: BaseException, /) -> None:
        """Reading raised."""
        self._read()
        self._end(error=error)

    def _end(self, *, left: bool = False, error: BaseException | None = None) -> None:
        self._invocation.streamed(
            is_done=self.ending.is_done, left=left, failure=self._failure, error=error
        )

    def _read(self) -> None:
        pending, self._pending = self._pending, []
        if pending and self._invocation.is_open:
            self._last = pending[-1]
            if (accumulator := self._invocation.accumulator) is not None:
                with _READ_CHUNKS:
                    try:
                        for chunk in pending:
                            accumulator.add(chunk)
                    except Exception:
                        # What it has isn't the answer, nor how far that came.
                        self._invocation.accumulator = None
                        raise

    def __del__(self) -> None:
        self._invocation.recording.closed(self)
        self.left()


def observe_stream(stream: Any, invocation: Invocation, *, hides_usage: bool) -> None:
    """Puts an observed iterator into a client's stream object.

    Closing a stream only closes its response, so that is watched too.
    """
    observer = Observer(invocation, hides_usage=hides_usage)
    observe: Any = aobserved if hasattr(stream, "__anext__") else observed
    iterator = observe(stream._iterator, observer)  # noqa: SLF001  # `_streaming.py` of both
    stream._iterator = iterator  # noqa: SLF001  # the same
    # Weakly: the observer is to end with the iterator, and ends the span of one never read.
    weak_observer, weak_iterator = ref(observer), ref(iterator)

    def closed() -> None:
        observer = weak_observer()
        # The client's generator closes the response itself when it ends or fails, and reports that
        # right after.
        if observer is not None and not is_running(weak_iterator()):
            observer.left()

    watch(stream.response, observer.ending, closed)


def observe_body(response: Any, invocation: Invocation, *, stream: bool) -> None:
    """Ends the invocation with the answer in an HTTP response: at once, or as its body is read."""
    content = response.__dict__.get("_content")
    if content is not None:
        invocation.answered(json_object(content))
    else:
        watch(response, _RawStream(invocation) if stream else _Body(invocation, response))


class _RawStream(Observer):
    """Takes the bytes of a stream that the caller reads raw."""

    def __init__(self, invocation: Invocation) -> None:
        super().__init__(invocation)
        self._events = EventDecoder()

    def add(self, chunk: bytes, /) -> bool:
        self.ending.add(chunk)
        with _READ_BODY:
            for event in self._events.feed(chunk):
                super().add(event)
                self._failure = self._failure or reported_error(event)
        return True


class _Body:
    """Takes the bytes of one answer, and keeps those of JSON that isn't too large."""

    def __init__(self, invocation: Invocation, response: Any) -> None:
        self._invocation = invocation
        self._is_json = "json" in response.headers.get("content-type", "")
        self._kept = bytearray()
        invocation.recording.opened(self)

    def add(self, chunk: bytes, /) -> bool:
        with _READ_BODY:
            # Some gateways give errors another type than that of JSON.
            self._is_json = self._is_json or (not self._kept and chunk.startswith(b"{"))
            if self._is_json and len(self._kept) <= LARGEST_BODY:
                self._kept += chunk
        return True

    def exhausted(self) -> None:
        is_whole = len(self._kept) <= LARGEST_BODY
        self._invocation.answered(json_object(bytes(self._kept)) if is_whole else None)

    def broken(self, error: BaseException, /) -> None:
        self._invocation.failed(error)

    def left(self) -> None:
        self._invocation.ended()

    def __del__(self) -> None:
        self._invocation.recording.closed(self)
        self.left()
