"""The bodies that LiteLLM's own HTTP client receives, read beside LiteLLM.

LiteLLM passes over errors that come with HTTP status 200, and ends a stream that was cut as if it
were whole. So what a provider sent is judged here, by the same accumulators that judge the streams
of the clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from agentpulse_instrumentation._engine.body import EventDecoder, json_object, release, watch
from agentpulse_instrumentation._engine.operation import (
    Accumulator,
    Attributes,
    Operation,
    reported_error,
)
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.anthropic._messages import MESSAGE
from agentpulse_instrumentation.litellm._gemini import CONTENT
from agentpulse_instrumentation.openai._chat import CHAT
from agentpulse_instrumentation.openai._responses import RESPONSE

_READ = shield("read a body")
_LARGEST_ERROR = 2**16
"""Bytes of what may be an error in place of an answer."""


def _gone() -> None:
    return None


class Body:
    """What one HTTP response brought so far.

    Attributes:
        has_begun: Whether an event of a stream came.
        is_over: Whether no more will come: the server ended it, or the connection broke.
        operation: What its events are, where that is known: these say themselves when all came.
    """

    __slots__ = (
        *("_accumulator", "_events", "_failure", "_head", "_is_event_stream", "_response"),
        *("has_begun", "is_over", "operation"),
    )

    def __init__(self, response: Any) -> None:
        """Reads what is in memory already, or watches what is read from now on."""
        self.operation: Operation | None = None
        self.has_begun = False
        self.is_over = False
        self._response: Callable[[], Any] = _gone
        self._accumulator: Accumulator | None = None
        self._events = EventDecoder()
        self._failure: str | None = None
        self._head = b""
        kind = str(response.headers.get("content-type", ""))
        self._is_event_stream = "event-stream" in kind
        content = response.__dict__.get("_content")
        if content is not None:
            self._head = content[: _LARGEST_ERROR + 1]
        # Bedrock's events are binary, and LiteLLM raises the errors among them.
        elif "amazon" not in kind:
            self._response = ref(response)
            watch(response, self, self._closed)

    @property
    def failure(self) -> str | None:
        """The `error.type` of an error that the body reports, in place of an answer or in it."""
        if b'"error"' in self._head and len(self._head) <= _LARGEST_ERROR:
            return reported_error(json_object(self._head))
        return self._failure

    @property
    def is_partial(self) -> bool:
        """Whether a part of a stream is missing; False where its events don't say."""
        if self._accumulator is not None:
            return not (self._events.is_done or self._accumulator.is_complete())
        return self._is_event_stream and not self.has_begun

    @property
    def has_answer(self) -> bool:
        """Whether any part of an answer came, and not an error in its place, or nothing at all."""
        return self.has_begun or (self.failure is None and not self._is_event_stream)

    @property
    def reported_usage(self) -> bool:
        """Whether the provider reported the tokens of the stream."""
        return self._accumulator is not None and self._accumulator.reported_usage()

    @property
    def characters(self) -> int:
        """How much text came, as far as that is known."""
        return 0 if self._accumulator is None else self._accumulator.received_characters()

    def read(self, into: Attributes) -> list[str | None]:
        """Reads what came of an answer; returns why it ended, one per choice."""
        operation = self.operation
        answer = None if self._accumulator is None else self._accumulator.answer()
        if operation is None or answer is None:
            return []
        operation.answer.read(answer, into)
        operation.more_from_answer(answer, into)
        return operation.finish_reasons(answer)

    def add(self, chunk: bytes) -> bool:
        """Takes the next bytes, which LiteLLM sees."""
        with _READ:
            if not self.has_begun and len(self._head) <= _LARGEST_ERROR:
                self._head += chunk
            for event in self._events.feed(chunk):
                if not self.has_begun:
                    self._begin(event)
                self._failure = self._failure or reported_error(event)
                if self._accumulator is not None:
                    self._accumulator.add(event)
        return True

    def exhausted(self) -> None:
        """The server ended the body."""
        self.is_over = True
        release(self._response())

    def broken(self, error: BaseException) -> None:
        """The connection broke, or the task that reads was cancelled."""
        self.is_over = isinstance(error, Exception)

    def left(self) -> None:
        """The caller closed or dropped the body, of which more may have come."""

    def _closed(self) -> None:
        release(self._response())

    def _begin(self, event: dict[str, Any]) -> None:
        self.has_begun, self._head = True, b""
        self.operation = _operation_of(event)
        if self.operation is not None and self.operation.accumulator is not None:
            self._accumulator = self.operation.accumulator(False)


def _operation_of(event: dict[str, Any]) -> Operation | None:
    """What streams begin with such an event."""
    kind = event.get("type")
    if kind == "message_start":
        return MESSAGE
    if isinstance(kind, str) and kind.startswith("response."):
        return RESPONSE
    if "candidates" in event or "promptFeedback" in event:
        return CONTENT
    return CHAT if isinstance(event.get("choices"), list) else None
