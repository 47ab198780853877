"""Streams are instrumented in place: the caller keeps the client's stream, our iterator inside.

So `isinstance`, `.response`, `.close()`, `with`, and helpers that read past a proxy keep working.
The stream is current in no context while the caller's loop body runs, and nothing is read before
the caller asks.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from agentpulse_instrumentation.invocation import Invocation
from agentpulse_instrumentation.operation import Accumulator
from agentpulse_instrumentation.response import release, watch_close
from agentpulse_instrumentation.shield import shield
from agentpulse_instrumentation.usage_chunk import UsageChunk

_READ_CHUNK = shield("read a chunk")


class Observer:
    """Watches one stream for one invocation, whichever of sync and async it is."""

    __slots__ = ("_invocation", "accumulator", "add")

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        make = invocation.operation.accumulator
        self.accumulator: Accumulator | None = make(invocation.keeps_content) if make else None
        # Swapped for the accumulator's own method at the first chunk, so that later chunks cost
        # one call.
        self.add = self._add_first

    def _add_first(self, chunk: Any) -> None:
        self._invocation.first_chunk_arrived()
        accumulator = self.accumulator
        self.add = accumulator.add if accumulator is not None else _ignore
        self.add(chunk)

    def exhausted(self, failure: str | None = None) -> None:
        """The stream came to its end, or to an event that told of a `failure`."""
        self._invocation.streamed(self.accumulator, failure=failure)

    def left(self, failure: str | None = None) -> None:
        """The caller closed or dropped the stream."""
        if not self._invocation.is_open:
            return
        complete = self.accumulator is not None and self.accumulator.is_complete()
        self._invocation.streamed(self.accumulator, left=not complete, failure=failure)

    def broken(self, error: BaseException) -> None:
        """Reading raised."""
        if isinstance(error, GeneratorExit):
            self.left()
        else:
            self._invocation.streamed(self.accumulator, error=error)


def _ignore(_chunk: Any) -> None:
    return None


class ObservedIterator:
    """A stream's iterator, observed. Ends its invocation when it is dropped unread, too."""

    __slots__ = ("__weakref__", "_hidden", "_observer", "iterator")

    def __init__(self, iterator: Any, observer: Observer, hidden: UsageChunk | None) -> None:
        self.iterator = iterator
        self._observer = observer
        self._hidden = hidden

    def __iter__(self) -> ObservedIterator:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                chunk = self.iterator.__next__()
            except StopIteration:
                self._observer.exhausted()
                raise
            except BaseException as error:
                self._observer.broken(error)
                raise
            try:
                self._observer.add(chunk)
                if self._hidden is None or not self._hidden.takes(chunk):
                    return chunk
            except Exception:  # the shield decides; entering it for every chunk would cost 0.1 µs
                with _READ_CHUNK:
                    raise
                return chunk

    def __getattr__(self, name: str) -> Any:
        # Whatever else the client's iterator offers (`close`, `send`, …).
        return getattr(self.iterator, name)

    def __del__(self) -> None:
        self._observer.left()


class ObservedAsyncIterator(ObservedIterator):
    """The async twin."""

    __slots__ = ()

    def __aiter__(self) -> ObservedAsyncIterator:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                chunk = await self.iterator.__anext__()
            except StopAsyncIteration:
                self._observer.exhausted()
                raise
            except BaseException as error:
                self._observer.broken(error)
                raise
            try:
                self._observer.add(chunk)
                if self._hidden is None or not self._hidden.takes(chunk):
                    return chunk
            except Exception:  # as above
                with _READ_CHUNK:
                    raise
                return chunk


def observe_stream(stream: Any, invocation: Invocation, hidden: UsageChunk | None) -> None:
    """Puts an observed iterator into a client's stream object.

    Closing a stream only closes its response, so that is watched too.
    """
    observer = Observer(invocation)
    observed = ObservedAsyncIterator if _is_async(stream) else ObservedIterator
    iterator = observed(stream._iterator, observer, hidden)  # noqa: SLF001  # `_streaming.py` of both
    stream._iterator = iterator  # noqa: SLF001  # the same
    weak_iterator, weak_response = ref(iterator), ref(stream.response)

    def closed() -> None:
        observed = weak_iterator()
        # The client's generator closes the response itself when it ends or fails, and tells us
        # right after.
        if observed is None or not is_running(observed.iterator):
            observer.left()
        release(weak_response())

    watch_close(stream.response, closed)


def _is_async(stream: object) -> bool:
    return hasattr(type(stream), "__anext__")


def is_running(iterator: Any) -> bool:
    """Whether a generator is in the middle of a step right now."""
    return bool(getattr(iterator, "gi_running", False) or getattr(iterator, "ag_running", False))
