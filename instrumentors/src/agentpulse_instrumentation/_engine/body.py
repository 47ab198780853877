"""Raw answers: observed while the caller reads them, never read or parsed on their behalf.

`with_raw_response` hands out an answer whose body the HTTP client has in memory already; we look at
a copy of it. `with_streaming_response`, and a stream asked for raw, hand out an open body: its byte
iterators are replaced on the one response object, and all the ways to read it (`read`, `json`,
`iter_lines`, `parse`) pass by them.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import reported_error
from agentpulse_instrumentation._engine.stream import (
    EventDecoder,
    Observer,
    is_ping,
    json_object,
    release,
    watch,
)
from agentpulse_instrumentation._shield import shield

LARGEST_BODY = 16 * 2**20
"""Bytes of a JSON answer kept for reading it; the usage of a larger one stays unknown."""

_READ_BODY = shield("read a body")


def observe_body(response: Any, invocation: Invocation, *, stream: bool) -> None:
    """Ends the invocation with the answer in an HTTP response: at once, or as its body is read."""
    content = response.__dict__.get("_content")
    if content is not None:
        invocation.answered(json_object(content))
        return
    observer = _BodyObserver(response, invocation, stream=stream)
    watch(response, observer, observer.closed)


class _BodyObserver:
    """Takes the bytes of one body as the caller reads them."""

    __slots__ = (
        *("__weakref__", "_add", "_events", "_failure", "_invocation"),
        *("_is_json", "_kept", "_observer", "_response", "_size"),
    )

    def __init__(self, response: Any, invocation: Invocation, *, stream: bool) -> None:
        self._response = ref(response)
        self._invocation = invocation
        self._events = EventDecoder()
        self._observer = Observer(invocation, self._events) if stream else None
        self._add = None if self._observer is None else self._observer.add
        self._is_json = "json" in response.headers.get("content-type", "")
        self._kept: list[bytes] = []
        self._size = 0
        self._failure: str | None = None
        invocation.recording.unfinished.add(self)

    def add(self, chunk: bytes) -> bool:
        """Takes the next bytes, which the caller sees."""
        with _READ_BODY:
            if self._add is not None:
                for event in self._events.feed(chunk):
                    if is_ping(event):
                        continue
                    self._add(event)
                    self._failure = self._failure or reported_error(event)
                return True
            # Some gateways give errors another type than that of JSON.
            self._is_json = self._is_json or (not self._kept and chunk.startswith(b"{"))
            if self._is_json and self._size <= LARGEST_BODY:
                self._size += len(chunk)
                self._kept.append(chunk)
        return True

    def exhausted(self) -> None:
        """The body was read to its end."""
        release(self._response())
        if self._observer is not None:
            self._observer.exhausted(self._failure)
        elif self._is_json and self._size <= LARGEST_BODY:
            self._invocation.answered(json_object(b"".join(self._kept)))
        else:
            self._invocation.ended()

    def broken(self, error: BaseException) -> None:
        """Reading raised."""
        if self._observer is not None:
            self._observer.broken(error)
        else:
            self._invocation.failed(error)

    def left(self) -> None:
        """The caller closed or dropped the response."""
        if self._observer is not None:
            self._observer.left(self._failure)
        else:
            self._invocation.ended()

    def closed(self) -> None:
        """The response was closed."""
        self.left()
        release(self._response())

    def __del__(self) -> None:
        self._invocation.recording.unfinished.discard(self)
        self.left()
