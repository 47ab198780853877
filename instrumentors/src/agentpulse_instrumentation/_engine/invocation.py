"""One operation under way and its span: begun once, by `begin`, and ended exactly once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from time import perf_counter, time_ns
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting, usage
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.events import EventLogger, end_call
from agentpulse_instrumentation._engine.instrumentor import Recording
from agentpulse_instrumentation._engine.metrics import ChunkTimes
from agentpulse_instrumentation._engine.nesting import AgentCalls, Inside
from agentpulse_instrumentation._engine.operation import (
    INFERENCE,
    Accumulator,
    Attributes,
    Message,
    Operation,
    error_type,
    http_status,
)
from agentpulse_instrumentation._shield import shield

STREAM_CUT = "stream_cut"
"""The `error.type` of a stream that the server ended before the answer was over."""

_MOST_CHOICES = 128
"""As many as OpenAI takes."""
_NOTHING: Mapping[str, Any] = {}
_NANOSECONDS = 1_000_000_000
_BEGIN = shield("begin a span")
_READ_ANSWER = shield("read the answer")
_END_SPAN = shield("end the span")


class Invocation:
    """Owns the span of one operation. Whoever learns first how it went ends it, once.

    As a context manager it makes the span the current one for the code inside, and ends it where
    that code raises. The methods that end it never raise, and do nothing from the second time on.
    """

    __slots__ = (
        *("_attributes", "_calls", "_content", "_entered", "_first_chunk", "_logger", "_open"),
        *("_previous", "_request", "_start_time", "_started"),
        *("inside", "operation", "policy", "recording", "span"),
    )

    def __init__(self, recording: Recording, operation: Operation) -> None:
        self.recording = recording
        self.operation = operation
        """What is being done."""
        self.policy: ContentPolicy = recording.policy
        """What of the content is captured."""
        self.span: Span = INVALID_SPAN
        self.inside: Inside | None = None
        """The agent for whose run the calls inside this operation count."""
        self._request: Mapping[str, Any] = _NOTHING
        self._attributes: Attributes = {}
        self._content: Content | None = None
        self._logger: EventLogger | None = None
        self._calls: AgentCalls | None = None
        self._start_time: int | None = None
        self._started = perf_counter()
        self._first_chunk: float | None = None
        # A list that is emptied once: popping is atomic, so two threads can't both end the span. It
        # holds the process that does: a forked child leaves the calls of its parent to that.
        self._open: list[int] = []

    def read(
        self,
        request: Mapping[str, Any],
        attributes: Attributes,
        content: Content | None,
        *,
        is_client: bool,
    ) -> None:
        """Reads the request, as `begin` does first."""
        operation, recording, policy = self.operation, self.recording, self.policy
        operation.request.read(request, attributes)
        operation.more_from_request(request, attributes)
        self._request, self._attributes = request, attributes
        self._logger = recording.event_logger() if is_client else None
        if policy.on_spans or (policy.on_events and self._logger is not None):
            self._content = content or NO_CONTENT
            if content is None:
                with _BEGIN:
                    self._content = policy.input_attributes(operation.input_content(request))

    def start(
        self,
        name: str | None,
        kind: SpanKind,
        around: Context,
        parent: Context | None,
        start_time: int | None,
    ) -> None:
        """Starts the span, where the layers above have it, as `begin` does then."""
        operation, metrics, known = self.operation.name, self.recording.metrics, self._attributes
        begun = nesting.begun_in(parent, operation, around, known)
        model = known.get(semconv.REQUEST_MODEL)
        content = self.policy.span_attributes(self._content) if self._content else NO_CONTENT
        self.span = self.recording.tracer.start_span(
            name or (operation if model is None else f"{operation} {model}"),
            begun.context,
            kind,
            {**known, **content} if content else known,
            start_time=start_time,
        )
        begun.by(self.span)
        is_measured = metrics.is_on
        # An answer of a cache is no call.
        if semconv.ANSWERED_BY not in known:
            counted = nesting.count(operation, begun.context, is_measured=is_measured)
            self.inside, self._calls = counted
        self._start_time = start_time
        # Samplers thin out traces, and neither metrics nor events.
        if self.span.is_recording() or self._logger is not None or is_measured:
            self._open.append(os.getpid())

    def __enter__(self) -> Self:
        """Makes the span current, so that the spans of an HTTP library nest in it."""
        if self.span is INVALID_SPAN:
            self._entered = None
            return self
        self._previous = context_api.get_current()
        entered = set_span_in_context(self.span, self._previous)
        self._entered = nesting.within(self.inside, entered) if self.inside else entered
        context_api.attach(self._entered)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the invocation where the code inside raised; makes the caller's context current.

        Not by `detach`: a coroutine that is closed in another context would have it log an error.
        There our context isn't the current one, and nothing is to be undone.
        """
        if error is not None:
            self.failed(error)
        if context_api.get_current() is self._entered:
            context_api.attach(self._previous)

    @property
    def keeps_content(self) -> bool:
        """Whether the content of the answer is captured, for the span or an event."""
        return self._content is not None

    @property
    def is_open(self) -> bool:
        """Whether nobody has ended it yet, and this process is to."""
        return self._open[:1] == [os.getpid()]

    def chunk_arrived(self) -> None:
        """Notes the time to the first chunk of a stream, at the first call."""
        if self._first_chunk is None:
            self._first_chunk = perf_counter() - self._started

    def chunk_times(self) -> ChunkTimes | None:
        """What times the chunks of its stream; None where nobody measures them."""
        metrics, operation = self.recording.metrics, self.operation
        if not metrics.is_on or operation.name not in INFERENCE:
            return None
        return ChunkTimes(metrics, operation, self._attributes)

    def answered(self, answer: Any) -> None:
        """Ends the span of a call that returned its whole answer."""
        if not self._close():
            return
        attributes: Attributes = {}
        failure = None
        with _READ_ANSWER:
            try:
                failure = self._read(answer, attributes, finished=True)
            finally:
                self._end(attributes, failure)

    def streamed(
        self,
        accumulator: Accumulator | None,
        *,
        is_done: bool = False,
        left: bool = False,
        failure: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Ends the span of a stream: read to its end, closed early (`left`), or broken.

        Args:
            accumulator: What the stream brought.
            is_done: Whether the server declared the stream over, whatever it brought.
            left: Whether the caller closed or dropped it.
            failure: The `error.type` of an error that the server reported in the stream.
            error: What reading raised.
        """
        if not self._close():
            return
        attributes: Attributes = {}
        with _READ_ANSWER:
            try:
                if self._first_chunk is not None:
                    attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self._first_chunk
                if accumulator is not None:
                    answer = accumulator.answer()
                    complete = (is_done and failure is None) or (
                        accumulator.is_complete() and not self._lacks_choices(answer)
                    )
                    if answer is not None:
                        failure = self._read(answer, attributes, finished=complete) or failure
                        if not accumulator.reported_usage():
                            self._estimate(accumulator, attributes)
                    if not complete and not left:
                        failure = failure or STREAM_CUT
            finally:
                self._end(attributes, None if error else failure, error)

    def failed(self, error: BaseException) -> None:
        """Ends the span of a call that raised."""
        self.ended(error=error)

    def ended(
        self,
        attributes: Mapping[str, Any] = _NOTHING,
        *,
        messages: Sequence[Message] = (),
        failure: str | None = None,
        error: BaseException | None = None,
        end_time: int | None = None,
    ) -> None:
        """Ends the span of a call whose answer somebody else has read, or nobody.

        Args:
            attributes: Those of the answer.
            messages: The answer's content, in the form of the conventions.
            failure: The `error.type` of a call that failed; None to read it, and the HTTP status,
                from the error.
            error: What the call raised.
            end_time: When it ended, in nanoseconds since 1970; None for now.
        """
        if self._close():
            with _END_SPAN:
                try:
                    self._capture(messages)
                finally:
                    self._end({**attributes}, failure, error, end_time)

    def _close(self) -> bool:
        try:
            return self._open.pop() == os.getpid()
        except IndexError:
            return False

    def _read(self, answer: Any, attributes: Attributes, *, finished: bool) -> str | None:
        operation = self.operation
        operation.answer.read(answer, attributes)
        operation.more_from_answer(answer, attributes)
        self._name_model(attributes)
        reasons = operation.finish_reasons(answer)
        if finished:
            known = [reason for reason in reasons if reason]
            if known:
                attributes[semconv.RESPONSE_FINISH_REASONS] = known
        else:
            # The conventions: a generation that ended without its reason reports `error`, one
            # entry a choice.
            reasons += [None] * (self._choices - len(reasons))
            attributes[semconv.RESPONSE_FINISH_REASONS] = [reason or "error" for reason in reasons]
        if self._content is not None:
            self._capture(operation.output_content(answer))
        return operation.failure(answer)

    def _capture(self, messages: Sequence[Message]) -> None:
        if self._content is not None and messages:
            captured = self.policy.output_attributes(messages)
            self._content = {**self._content, **captured}
            self.span.set_attributes(self.policy.span_attributes(captured))

    @property
    def _choices(self) -> int:
        """How many answers were asked for."""
        return min(self._attributes.get(semconv.REQUEST_CHOICE_COUNT, 1), _MOST_CHOICES)

    def _lacks_choices(self, answer: Any) -> bool:
        """Whether a choice never began."""
        return 0 < len(self.operation.finish_reasons(answer)) < self._choices

    def _name_model(self, attributes: Attributes) -> None:
        """A request can name a stored prompt or a deployment; then the answer has the model."""
        # What fetches an answer asks no model.
        if self.operation.resource_attribute is None and (
            semconv.RESPONSE_MODEL in attributes and semconv.REQUEST_MODEL not in self._attributes
        ):
            model = attributes[semconv.REQUEST_MODEL] = attributes[semconv.RESPONSE_MODEL]
            self.span.update_name(f"{self.operation.name} {model}")

    def _estimate(self, accumulator: Accumulator, attributes: Attributes) -> None:
        if not self.operation.estimates_usage:
            return
        if semconv.USAGE_INPUT_TOKENS not in attributes:
            attributes[semconv.USAGE_INPUT_TOKENS] = usage.input_tokens(self._request)
        attributes[semconv.USAGE_OUTPUT_TOKENS] = usage.tokens(accumulator.received_characters())
        attributes[semconv.USAGE_ESTIMATED] = True

    def _end(
        self,
        attributes: Attributes,
        failure: str | None,
        error: BaseException | None = None,
        end_time: int | None = None,
    ) -> None:
        span, content = self.span, self._content
        # What is kept for a call ends with the call.
        self._request, self._content = _NOTHING, None
        try:
            if error is not None and failure is None:
                failure = error_type(error)
                status = http_status(error)
                if status is not None:
                    attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
            if failure is not None:
                attributes[semconv.ERROR_TYPE] = failure
                description = self.policy.span_error_text(error) if error is not None else None
                span.set_status(Status(StatusCode.ERROR, description))
            if attributes:
                span.set_attributes(attributes)
        finally:
            # Runs the processors of other people, so this is inside a shield too.
            if self._logger is None and not self.recording.metrics.is_on:
                span.end(end_time)
            else:
                end_call(
                    span,
                    {**self._attributes, **attributes},
                    self._seconds(end_time),
                    policy=self.policy,
                    metrics=self.recording.metrics,
                    logger=self._logger,
                    content=content or NO_CONTENT,
                    error=error,
                    at=end_time,
                    calls=self._calls,
                )

    def _seconds(self, end_time: int | None) -> float:
        if self._start_time is None:
            return perf_counter() - self._started
        return ((time_ns() if end_time is None else end_time) - self._start_time) / _NANOSECONDS
