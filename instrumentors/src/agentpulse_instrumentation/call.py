"""One call on its way through the seam: its context while it is under way, its answer observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context

from agentpulse_instrumentation.body import observe_body
from agentpulse_instrumentation.invocation import Invocation
from agentpulse_instrumentation.response import json_object
from agentpulse_instrumentation.shield import shield
from agentpulse_instrumentation.stream import observe_stream
from agentpulse_instrumentation.usage_chunk import UsageChunk

_OBSERVE = shield("observe an answer")


class Call:
    """A call on its way through the seam: its arguments, its context and its invocation."""

    __slots__ = ("_entered", "_hidden", "_invocation", "_previous", "_streams", "args", "kwargs")

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        invocation: Invocation | None,
        hidden: UsageChunk | None,
        *,
        streams: bool,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._invocation = invocation
        self._hidden = hidden
        self._streams = streams

    def enter(self, context: Context, span: Span) -> None:
        """Makes the span current while the client works, so that spans of its HTTP library nest."""
        self._previous = context
        self._entered = set_span_in_context(span, context)
        context_api.attach(self._entered)

    def leave(self) -> None:
        """Makes the caller's context current again.

        Not by `detach`: a coroutine that is closed in another context would have it log an error.
        There our context isn't the current one, and nothing is to be undone.
        """
        if context_api.get_current() is self._entered:
            context_api.attach(self._previous)

    def failed(self, error: BaseException) -> None:
        """The call raised."""
        if self._invocation is not None:
            self._invocation.failed(error)

    def returned(self, result: object) -> None:
        """The call returned: reads its answer, or observes the caller reading it. Never raises."""
        invocation = self._invocation
        if invocation is None:
            return
        # Pydantic models, the plain answers, are known by this without a look at their class.
        if hasattr(result, "__pydantic_fields_set__"):
            invocation.answered(result)
            return
        watched = False
        with _OBSERVE:
            observe = _OBSERVERS[_kind_of(result)]
            if observe is None:
                invocation.answered(result)
            else:
                observe(self, result, invocation)
            watched = True
        if not watched:
            invocation.ended_unread()

    def observe_stream(self, stream: Any, invocation: Invocation) -> None:
        """A stream of chunks."""
        observe_stream(stream, invocation, self._hidden)

    def observe_raw(self, raw: Any, invocation: Invocation) -> None:
        """The client's wrapper of a raw response."""
        observe_body(raw.http_response, invocation, stream=self._streams)

    def observe_binary(self, answer: Any, invocation: Invocation) -> None:
        """The client's wrapper of an answer that is a file."""
        observe_body(answer.response, invocation, stream=False)

    def observe_text(self, answer: str, invocation: Invocation) -> None:
        """A text: what was asked for, or JSON that has the type of one."""
        invocation.answered(json_object(answer))

    def observe_http(self, response: Any, invocation: Invocation) -> None:
        """The HTTP library's response itself (`cast_to=httpx.Response`)."""
        observe_body(response, invocation, stream=self._streams)


_OBSERVERS: dict[str, Callable[[Call, Any, Invocation], None] | None] = {
    "answer": None,
    "stream": Call.observe_stream,
    "raw": Call.observe_raw,
    "http": Call.observe_http,
    "binary": Call.observe_binary,
    "text": Call.observe_text,
}
_kinds: WeakKeyDictionary[type[object], str] = WeakKeyDictionary()


def _kind_of(result: object) -> str:
    # Remembered, because a pydantic class takes a microsecond to say that it lacks an attribute.
    answer = type(result)
    kind = _kinds.get(answer)
    if kind is None:
        kind = _kinds[answer] = _look_at(answer)
    return kind


def _look_at(answer: type[object]) -> str:
    if hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
        return "stream"
    if hasattr(answer, "parse") and hasattr(answer, "http_request"):
        return "raw"
    if hasattr(answer, "iter_raw") and hasattr(answer, "http_version"):
        return "http"
    if hasattr(answer, "iter_raw") and hasattr(answer, "write_to_file"):
        return "binary"
    return "text" if issubclass(answer, str) else "answer"
