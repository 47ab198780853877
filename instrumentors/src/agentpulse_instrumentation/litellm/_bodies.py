"""The bodies that LiteLLM's own HTTP client receives, read beside LiteLLM.

LiteLLM passes over errors that come with HTTP status 200, and ends a stream that was cut as if it
were whole. So the bytes that a provider sent are judged here, by the same accumulators that judge
the streams of the clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentpulse_instrumentation._engine import operation as op
from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import (
    EventDecoder,
    Table,
    count,
    get,
    items,
    json_object,
    text,
)
from agentpulse_instrumentation._engine.invocation import STREAM_CUT
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation._engine.stream import Watcher, watch
from agentpulse_instrumentation.anthropic._messages import MESSAGE
from agentpulse_instrumentation.openai._chat import CHAT
from agentpulse_instrumentation.openai._responses import RESPONSE

_READ = shield("read a body")
_LARGEST_ERROR = 2**16
"""Bytes of what may be an error in place of an answer."""


class Body(Watcher):
    """What one HTTP response brought so far.

    Attributes:
        has_begun: Whether an event of a stream came.
        has_no_reason: Whether LiteLLM made up the reason why the stream ended.
        operation: What its events are, where that is known: these say themselves when all came.
        stream: What these brought.
    """

    operation: op.Operation | None = None
    stream: op.Accumulator | None = None
    has_begun = has_no_reason = False
    _error: str | None = None
    _head = b""
    _is_event_stream = False
    _is_over = False
    """Whether no more will come: the server ended it, or the connection broke."""

    def observe(self, response: Any) -> None:
        """Reads what is in memory already, or watches what is read from now on."""
        self._events = EventDecoder()
        kind = str(response.headers.get("content-type", ""))
        self._is_event_stream = "event-stream" in kind
        content: bytes | None = response.__dict__.get("_content")
        self._head = (content or b"")[: _LARGEST_ERROR + 1]
        # Bedrock's events are binary, and LiteLLM raises the errors among them.
        if content is None and "amazon" not in kind:
            watch(response, self)

    @property
    def error(self) -> str | None:
        """The `error.type` of an error that the body reports, in place of an answer or in it."""
        if b'"error"' in self._head and len(self._head) <= _LARGEST_ERROR:
            return op.reported_error(json_object(self._head))
        return self._error

    @property
    def failure(self) -> str | None:
        """The `error.type` of such an error, or of a stream that was cut."""
        is_cut = self._is_over and self.is_partial
        # Of events of an unknown kind, LiteLLM alone knows the meaning.
        is_cut = is_cut or (self.operation is None and self.has_no_reason)
        return self.error or (STREAM_CUT if is_cut else None)

    @property
    def is_partial(self) -> bool:
        """Whether a part of a stream is missing; False where its events don't say."""
        if self.stream is not None:
            return not (self._events.is_done or self.stream.is_complete())
        return self._is_event_stream and not self.has_begun

    @property
    def has_answer(self) -> bool:
        """Whether any part of an answer came, and not an error in its place, or nothing at all."""
        return self.has_begun or (self.error is None and not self._is_event_stream)

    def read(self, into: op.Attributes) -> list[str | None]:
        """Reads what came of an answer; returns why it ended, one per choice."""
        operation = self.operation
        answer = None if self.stream is None else self.stream.answer()
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
                self._error = self._error or op.reported_error(event)
                if self.stream is not None:
                    self.stream.add(event)
        return True

    def exhausted(self) -> None:
        """The server ended the body."""
        self._is_over = True

    def broken(self, error: BaseException) -> None:
        """The connection broke, or the task that reads was cancelled."""
        self._is_over = isinstance(error, Exception)

    def _begin(self, event: dict[str, Any]) -> None:
        self.has_begun, self._head = True, b""
        self.operation = _operation_of(event)
        if self.operation is not None and self.operation.accumulator is not None:
            self.stream = self.operation.accumulator(False)


NO_BODY = Body()
"""That of a request that LiteLLM's own HTTP client didn't send."""


def _operation_of(event: dict[str, Any]) -> op.Operation | None:
    """What streams begin with such an event."""
    kind = event.get("type")
    if kind == "message_start":
        return MESSAGE
    if isinstance(kind, str) and kind.startswith("response."):
        return RESPONSE
    if "candidates" in event or "promptFeedback" in event:
        return _CONTENT
    return CHAT if isinstance(event.get("choices"), list) else None


# Streams of Gemini's API: LiteLLM gives each of their chunks a reason to end that it thinks up.

_USAGE = "usageMetadata"


class _ContentAccumulator:
    """Keeps the last chunk, whose usage is that of all so far, and the reasons to end."""

    def __init__(self, keeps_content: bool) -> None:  # noqa: ARG002  # LiteLLM's answer has it
        self._last: dict[str, Any] = {}
        self._reasons: dict[int, str | None] = {}
        self._is_refused = False
        self._characters = 0

    def add(self, chunk: Any) -> None:
        """Takes one chunk."""
        self._last = {**self._last, **chunk}
        if get(get(chunk, "promptFeedback"), "blockReason"):
            self._is_refused = True
        for candidate in items(chunk, "candidates"):
            index, reason = get(candidate, "index") or 0, get(candidate, "finishReason")
            self._reasons[index] = text(reason) or self._reasons.get(index)
            for part in items(get(candidate, "content"), "parts"):
                self._characters += len(text(get(part, "text")) or "")

    def answer(self) -> Mapping[str, Any]:
        """What the chunks say of the whole."""
        return {**self._last, "reasons": [self._reasons[index] for index in sorted(self._reasons)]}

    def is_complete(self) -> bool:
        """Whether every candidate was given its reason, or the prompt was refused."""
        return self._is_refused or (bool(self._reasons) and all(self._reasons.values()))

    def reported_usage(self) -> bool:
        """Whether a chunk carried it."""
        return get(get(self._last, _USAGE), "candidatesTokenCount") is not None

    def received_characters(self) -> int:
        """The text."""
        return self._characters


def _output_tokens(answer: Any, into: op.Attributes) -> None:
    used = get(answer, _USAGE)
    visible, thought = (get(used, f"{name}TokenCount") for name in ("candidates", "thoughts"))
    if isinstance(visible, int):
        into[semconv.USAGE_OUTPUT_TOKENS] = visible + (thought if isinstance(thought, int) else 0)


_CONTENT = op.Operation(
    name="chat",
    answer=Table(
        {
            "responseId": (semconv.RESPONSE_ID, str),
            "modelVersion": (semconv.RESPONSE_MODEL, str),
            f"{_USAGE}.promptTokenCount": (semconv.USAGE_INPUT_TOKENS, int),
            f"{_USAGE}.cachedContentTokenCount": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, count),
            f"{_USAGE}.thoughtsTokenCount": (semconv.USAGE_REASONING_OUTPUT_TOKENS, count),
        }
    ),
    more_from_answer=_output_tokens,
    finish_reasons=lambda answer: items(answer, "reasons"),
    accumulator=_ContentAccumulator,
)
