"""One operation under way and its span: begun once, by `begin`, and ended exactly once.

`begin` is for every layer: the clients of one request method, frameworks that learn of a call when
it is over, and instrumentors that are written by hand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from time import time_ns
from typing import Any, Self

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, set_span_in_context

from agentpulse_instrumentation._engine import nesting, semconv
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import (
    INFERENCE,
    Accumulator,
    Attributes,
    Message,
    Operation,
    error_type,
    http_status,
    input_tokens,
    tokens,
)
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation._engine.recording import Recording, emit_call, is_captured

STREAM_CUT = "stream_cut"
"""The `error.type` of a stream that the server ended before the answer was over."""

_MOST_CHOICES = 128  # as many as OpenAI takes
_NOTHING: Mapping[str, Any] = {}
_BEGIN = shield("begin a span")
_END = shield("read the answer")


def begin(
    recording: Recording,
    operation: Operation,
    request: Mapping[str, Any] = _NOTHING,
    attributes: Mapping[str, Any] = _NOTHING,
    *,
    stream: bool = False,
    name: str | None = None,
    kind: SpanKind = SpanKind.CLIENT,
    parent: Context | None = None,
    start_time: int | None = None,
    content: Content | None = None,
    captures: bool = True,
) -> Invocation:
    """Begins an operation: starts its span, with all that is known of the request.

    The span is a child of `parent`; without one, of the current span, or of the one that an outer
    layer names (a model or retriever of LangChain, a call of LiteLLM). It is counted as one call of
    the agent around it. Content is captured only where the user asked for it.

    Never raises. Where nothing is recorded (instrumentation was taken back, or is suppressed here),
    the invocation that it returns does nothing.

    Args:
        recording: What `LibraryInstrumentor.patch` was given.
        operation: What is being done; its tables read the request and the answer.
        request: The request as JSON, which is read and never changed.
        attributes: Attributes of the span that are no part of the request: the provider's name, the
            address of its server.
        stream: Whether the answer comes in pieces.
        name: The span's name; None for the operation and its model.
        kind: Of the span. Only the spans of a client (`CLIENT`) have log events.
        parent: The context that the span belongs to, for layers that learn of a call when it is
            over; None for the current one, or that of the layer above.
        start_time: When it began, in nanoseconds since 1970; None for now.
        content: The content of the request, as the policy captured it earlier; None to read it from
            the request now.
        captures: False where content must not be captured, whatever the user's settings are.
    """
    invocation = Invocation(recording, operation)
    with _BEGIN:
        around = context_api.get_current()
        if recording.active and (not around or start_time or is_instrumentation_enabled()):
            # Some spans are no operation of the conventions.
            named = {semconv.OPERATION_NAME: operation.name} if operation.name else {}
            known = {**named, **attributes, **operation.constants}
            if stream:
                known[semconv.REQUEST_STREAM] = True
            if not captures:
                invocation.policy = recording.policy.silenced()
            invocation.read_request(request, known, kind, content)
            invocation.start(name, kind, parent, start_time)
    return invocation


class Invocation:
    """Owns the span of one operation. The first call that says how it went ends it.

    As a context manager it makes the span the current one for the code inside, and ends it where
    that code raises. The methods that end it never raise, and do nothing from the second time on.
    """

    span: Span = INVALID_SPAN
    inside: AgentCalls | None = None
    """The agent for whose run the calls inside this operation count."""
    accumulator: Accumulator | None = None
    """What its stream brought so far."""
    arrivals: list[float] | None = None
    """When the chunks of its stream came, in seconds by one clock, where that is measured."""
    _content: Content | None = None
    _first_chunk: float | None = None
    _started = 0

    def __init__(self, recording: Recording, operation: Operation) -> None:
        self.recording = recording
        self.operation = operation
        """What is being done."""
        self.policy: ContentPolicy = recording.policy
        """What of the content is captured."""
        # A list that is emptied once: popping is atomic, so two threads can't both end the span. It
        # holds the process that does: a forked child leaves the calls of its parent to that.
        self._open: list[int] = []

    def read_request(
        self, request: Mapping[str, Any], known: Attributes, kind: SpanKind, content: Content | None
    ) -> None:
        """Reads the request, which adds to the attributes that are known: for `begin`."""
        self.operation.request.read(request, known)
        self._request, self._attributes = request, known
        self._logger = self.recording.event_logger() if kind is SpanKind.CLIENT else None
        if is_captured(self.policy, self._logger):
            self._content = content or NO_CONTENT
            if content is None:
                with _BEGIN:
                    read = self.operation.input_content(request)
                    self._content = self.policy.input_attributes(read)

    def start(
        self, name: str | None, kind: SpanKind, parent: Context | None, start_time: int | None
    ) -> None:
        """Starts the span, inside that of an outer layer where there is one: for `begin`."""
        operation, attributes = self.operation, self._attributes
        layers: Sequence[nesting.Layer] = ()
        if parent is None:
            around = context_api.get_current()
            parent, layers = nesting.begin_call(operation.name, around, attributes)
        model = attributes.get(semconv.REQUEST_MODEL)
        captured = self.policy.span_attributes(self._content) if self._content else NO_CONTENT
        self._started = start_time or time_ns()
        self.span = self.recording.tracer.start_span(
            name or (operation.name if model is None else f"{operation.name} {model}"),
            parent,
            kind,
            {**attributes, **captured} if captured else attributes,
            start_time=self._started,
        )
        for layer in layers:
            layer.spans.append(self.span)
        is_measured = self.recording.metrics.is_on
        if is_measured and operation.name in INFERENCE:
            self.arrivals = []
        # An answer of a cache is no call.
        if semconv.ANSWERED_BY not in attributes:
            self.inside = nesting.count(operation.name, parent)
        # Samplers thin out traces, and neither metrics nor events.
        if self.span.is_recording() or self._logger is not None or is_measured:
            self._open.append(os.getpid())

    def __enter__(self) -> Self:
        """Makes the span current, so that the spans of an HTTP library nest in it."""
        self._attached = self._attach()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Ends the invocation where the code inside raised; makes the caller's context current."""
        if error is not None:
            self.failed(error)
        _detach(*self._attached)

    @contextmanager
    def current(self) -> Generator[None]:
        """Makes the span current for code whose errors don't end it, such as a read of a stream."""
        attached = self._attach()
        try:
            yield
        finally:
            _detach(*attached)

    def _attach(self) -> tuple[Context, Context | None]:
        """Returns the context before, and that of the span; None where nothing is recorded."""
        before = context_api.get_current()
        if self.span is INVALID_SPAN:
            return before, None
        entered = nesting.within(self.inside, set_span_in_context(self.span, before))
        context_api.attach(entered)
        return before, entered

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
            self._first_chunk = (time_ns() - self._started) / 1e9

    def answered(self, answer: Any) -> None:
        """Ends the span of a call that returned its whole answer."""
        self._end(lambda into: self._read(answer, into, finished=True))

    def streamed(
        self, *, is_done: bool, left: bool, failure: str | None, error: BaseException | None
    ) -> None:
        """Ends the span of a stream: read to its end, closed early (`left`), or broken.

        Args:
            is_done: Whether the server declared the stream over, whatever it brought.
            left: Whether the caller closed or dropped it.
            failure: The `error.type` of an error that the server reported in the stream.
            error: What reading raised.
        """

        def read(into: Attributes) -> str | None:
            reported, accumulator = failure, self.accumulator
            if self._first_chunk is not None:
                into[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self._first_chunk
            if accumulator is not None:
                answer = _END.told(accumulator.answer, None)
                # A choice that never began is missing.
                begun = len(self._finish_reasons(answer)) or self._choices
                complete = (is_done and failure is None) or (
                    _END.told(accumulator.is_complete, True) and begun >= self._choices
                )
                if answer is not None:
                    reported = self._read(answer, into, finished=complete) or failure
                    if self.operation.estimates_usage:
                        with _END:
                            self._estimate(accumulator, into)
                if not complete and not left:
                    reported = reported or STREAM_CUT
            if self.arrivals:
                self.recording.metrics.record_chunks(self.arrivals, {**self._attributes, **into})
            return None if error else reported

        self._end(read, error)

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

        def read(into: Attributes) -> str | None:
            into.update(attributes)
            self._capture(messages)
            return failure

        self._end(read, error, end_time)

    def _read(self, answer: Any, attributes: Attributes, *, finished: bool) -> str | None:
        operation = self.operation
        operation.answer.read(answer, attributes)
        # What can't be read costs itself alone.
        with _END:
            operation.more_from_answer(answer, attributes)
        self._name_model(attributes)
        reasons = self._finish_reasons(answer)
        if finished:
            reasons = [reason for reason in reasons if reason]
        else:
            # The conventions: a generation that ended without its reason reports `error`, one
            # entry a choice.
            reasons += [None] * (self._choices - len(reasons))
        if reasons:
            attributes[semconv.RESPONSE_FINISH_REASONS] = [reason or "error" for reason in reasons]
        if self._content is not None:
            with _END:
                self._capture(operation.output_content(answer))
        return _END.told(lambda: operation.failure(answer), None)

    def _finish_reasons(self, answer: Any) -> list[str | None]:
        # A stream that brought nothing has no answer.
        if answer is None:
            return []
        return _END.told(lambda: self.operation.finish_reasons(answer), []) or []

    def _capture(self, messages: Sequence[Message]) -> None:
        if self._content is not None and messages:
            captured = self.policy.output_attributes(messages)
            self._content = {**self._content, **captured}
            self.span.set_attributes(self.policy.span_attributes(captured))

    @property
    def _choices(self) -> int:
        """How many answers were asked for."""
        return min(self._attributes.get(semconv.REQUEST_CHOICE_COUNT, 1), _MOST_CHOICES)

    def _name_model(self, attributes: Attributes) -> None:
        """A request can name a stored prompt or a deployment; then the answer has the model."""
        # What fetches an answer asks no model.
        if self.operation.resource_attribute is None and (
            semconv.RESPONSE_MODEL in attributes and semconv.REQUEST_MODEL not in self._attributes
        ):
            model = attributes[semconv.REQUEST_MODEL] = attributes[semconv.RESPONSE_MODEL]
            self.span.update_name(f"{self.operation.name} {model}")

    def _estimate(self, accumulator: Accumulator, attributes: Attributes) -> None:
        if accumulator.reported_usage():
            return
        read, written = input_tokens(self._request), accumulator.received_characters()
        if read is not None:
            attributes.setdefault(semconv.USAGE_INPUT_TOKENS, read)
        attributes[semconv.USAGE_OUTPUT_TOKENS] = tokens(written)
        attributes[semconv.USAGE_ESTIMATED] = True

    def _end(
        self,
        read: Callable[[Attributes], str | None],
        error: BaseException | None = None,
        end_time: int | None = None,
    ) -> None:
        """Ends the span, once, with what `read` adds to its attributes and the error it returns."""
        try:
            if self._open.pop() != os.getpid():
                return
        except IndexError:
            return
        attributes: Attributes = {}
        failure = None
        with _END:
            try:
                failure = read(attributes)
            finally:
                self._close(attributes, failure, error, end_time)

    def _close(
        self, into: Attributes, failure: str | None, error: BaseException | None, at: int | None
    ) -> None:
        span, content = self.span, self._content or NO_CONTENT
        # What is kept for a call ends with the call.
        self._request, self._content = _NOTHING, None
        try:
            if error is not None and failure is None:
                failure = error_type(error)
                status = http_status(error)
                if status is not None:
                    into[semconv.HTTP_RESPONSE_STATUS_CODE] = status
            if failure is not None:
                into[semconv.ERROR_TYPE] = str(failure)
                description = self.policy.span_error_text(error) if error is not None else None
                span.set_status(StatusCode.ERROR, description)
            if into:
                span.set_attributes(into)
        finally:
            # Runs the processors of other people, so this is inside a shield too.
            known, logger = {**self._attributes, **into}, self._logger
            try:
                if logger is not None:
                    # What takes the events may take its time, which is none of the call's.
                    at = at or time_ns()
                    emit_call(logger, span, known, content, self.policy, error, at)
            finally:
                span.end(at)
                seconds = ((at or time_ns()) - self._started) / 1e9
                self.recording.metrics.record(span, known, seconds, self.inside)


def _detach(before: Context, entered: Context | None) -> None:
    # Not by `detach`, which logs an error in a coroutine that is closed in another context.
    if context_api.get_current() is entered:
        context_api.attach(before)
