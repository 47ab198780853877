"""Raw answers: observed while the caller reads them, never read or parsed on their behalf.

`with_raw_response` hands out an answer whose body the HTTP client has in memory already; we look at
a copy of it. `with_streaming_response`, and a stream asked for raw, hand out an open body: its byte
iterators are replaced on the one response object, and all the ways to read it (`read`, `json`,
`iter_lines`, `parse`) pass by them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast
from weakref import ref

from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import reported_error
from agentpulse_instrumentation._engine.stream import (
    EventDecoder,
    Observer,
    is_ping,
    json_object,
    release,
    watch_close,
)
from agentpulse_instrumentation._shield import shield

LARGEST_BODY = 16 * 2**20
"""Bytes of a JSON answer kept for reading it; the usage of a larger one stays unknown."""

_READ_BODY = shield("read a body")


def observe_body(response: Any, invocation: Invocation, *, stream: bool) -> None:
    """Ends the invocation with what an HTTP response says: at once, or as its body is read."""
    content = response.__dict__.get("_content")
    if content is not None:
        invocation.answered(json_object(content))
        return
    _BodyObserver(invocation, stream=stream).attach(response)


class _BodyObserver:
    """Takes the bytes of one body as the caller reads them."""

    __slots__ = (
        *("__weakref__", "_add", "_events", "_failure", "_invocation"),
        *("_is_json", "_kept", "_observer", "_reading", "_size"),
    )

    def __init__(self, invocation: Invocation, *, stream: bool) -> None:
        self._invocation = invocation
        self._events = EventDecoder()
        self._observer = Observer(invocation, self._events) if stream else None
        self._add = None if self._observer is None else self._observer.add
        self._is_json = False
        self._kept: list[bytes] = []
        self._size = 0
        self._reading = False
        self._failure: str | None = None
        invocation.unfinished.add(self)

    def attach(self, response: Any) -> None:
        """Replaces the methods that read and close the response. They hold it weakly."""
        weak = ref(response)
        kind = cast("Any", type(response))
        self._is_json = "json" in response.headers.get("content-type", "")

        def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
            target = weak()
            with self._outcome():
                self._reading = True
                for chunk in kind.iter_bytes(target, chunk_size):
                    self._take(chunk)
                    self._reading = False
                    yield chunk
                    self._reading = True
            self._read(target)

        async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            target = weak()
            with self._outcome():
                self._reading = True
                async with aclosing(kind.aiter_bytes(target, chunk_size)) as chunks:
                    async for chunk in chunks:
                        self._take(chunk)
                        self._reading = False
                        yield chunk
                        self._reading = True
            self._read(target)

        def closed() -> None:
            # The HTTP client closes a response from inside the read that reaches its end, and that
            # read reports.
            if not self._reading:
                self.left()
                release(weak())

        response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
        watch_close(response, closed)

    @contextmanager
    def _outcome(self) -> Generator[None]:
        try:
            yield
        except GeneratorExit:
            self.left()
            raise
        except BaseException as error:
            if self._observer is not None:
                self._observer.broken(error)
            else:
                self._invocation.failed(error)
            raise
        finally:
            self._reading = False

    def _take(self, chunk: bytes) -> None:
        with _READ_BODY:
            if self._add is not None:
                for event in self._events.feed(chunk):
                    if is_ping(event):
                        continue
                    self._add(event)
                    self._failure = self._failure or reported_error(event)
                return
            # Some gateways give errors another type than that of JSON.
            self._is_json = self._is_json or (not self._kept and chunk.startswith(b"{"))
            if self._is_json and self._size <= LARGEST_BODY:
                self._size += len(chunk)
                self._kept.append(chunk)

    def _read(self, response: Any) -> None:
        release(response)
        if self._observer is not None:
            self._observer.exhausted(self._failure)
        elif self._is_json and self._size <= LARGEST_BODY:
            self._invocation.answered(json_object(b"".join(self._kept)))
        else:
            self._invocation.ended()

    def left(self) -> None:
        """The caller closed or dropped the response."""
        if self._observer is not None:
            self._observer.left(self._failure)
        else:
            self._invocation.ended()

    def __del__(self) -> None:
        self._invocation.unfinished.discard(self)
        self.left()
