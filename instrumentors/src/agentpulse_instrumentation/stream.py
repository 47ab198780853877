"""Streams are instrumented in place: the caller keeps the client's stream, our iterator inside.

So `isinstance`, `.response`, `.close()`, `with`, and helpers that read past a proxy keep working.
The stream is current in no context while the caller's loop body runs, and nothing is read before
the caller asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter
from typing import Any
from weakref import ref

from agentpulse_instrumentation.errors import reported_error
from agentpulse_instrumentation.invocation import Invocation
from agentpulse_instrumentation.operation import Accumulator
from agentpulse_instrumentation.response import json_object, release, watch_bytes, watch_close
from agentpulse_instrumentation.shield import shield
from agentpulse_instrumentation.sse import Ending, EventDecoder
from agentpulse_instrumentation.usage_chunk import UsageChunk

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
        ending: EventDecoder | Ending,
        hidden: UsageChunk | None = None,
    ) -> None:
        """`ending` knows whether the server said that the stream is over.

        `hidden` knows the chunk that the caller will not see.
        """
        self._invocation = invocation
        self._ending = ending
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
