"""One operation under way and its span: begun once, by `begin`, and ended exactly once.

Every layer begins its spans here: the clients of one request method, frameworks that learn of a
call when it is over, and instrumentors that are written by hand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from time import perf_counter, time_ns
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation
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
from agentpulse_instrumentation._engine.content import NOTHING_SAID, ContentPolicy, Said
from agentpulse_instrumentation._engine.events import EventLogger
from agentpulse_instrumentation._engine.instrumentor import Recording, Unfinished
from agentpulse_instrumentation._engine.metrics import ChunkTimes, Metrics
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

# The end of a call: its log events, its span and its metrics, which say the same.

_EMIT = shield("emit an event")
_STAMP = (
    *("session.id", "user.id", "agentpulse.session.", "agentpulse.metadata."),
    semconv.CALLED_IN_AGENT,
)
"""How the names of attributes begin that tell of a session."""


def end_call(
    span: Span,
    attributes: Attributes,
    seconds: float,
    *,
    policy: ContentPolicy,
    metrics: Metrics,
    logger: EventLogger | None = None,
    said: Said = NOTHING_SAID,
    error: BaseException | None = None,
    at: int | None = None,
    calls: AgentCalls | None = None,
) -> None:
    """Emits the events of a call, ends its span, and measures it.

    That runs the processors of other people, so whoever calls this is inside a shield.

    Args:
        span: The span, which has all its attributes.
        attributes: What the span was given, but for content.
        seconds: How long the call took, where the span itself doesn't tell.
        policy: What of the content events may have.
        metrics: What measures the call.
        logger: Where events go; None for nowhere.
        said: The content.
        error: What the call raised.
        at: When it ended, in nanoseconds since 1970; None for now.
        calls: Those that it made, where it is an agent's run.
    """
    try:
        if logger is not None:
            # What takes the events may take its time, which is none of the call's.
            at = time_ns() if at is None else at
            # What takes them may ask a model itself, which would be told by events again.
            with _EMIT, suppress_instrumentation():
                _emit(logger, span, attributes, policy, said, error, at)
    finally:
        span.end(at)
        metrics.record(span, attributes, seconds, calls)


def _emit(
    logger: EventLogger,
    span: Span,
    attributes: Attributes,
    policy: ContentPolicy,
    said: Said,
    error: BaseException | None,
    at: int,
) -> None:
    # While the span is open, for whoever puts events onto it.
    context = set_span_in_context(span)
    if error is not None:
        logger.emit_exception(context, policy.exception_attributes(error), at)
    if attributes.get(semconv.OPERATION_NAME) in INFERENCE:
        of_span = {**_stamped(span), **attributes}
        logger.emit_details(context, policy.event_attributes(of_span, said), at)


def _stamped(span: Span) -> Attributes:
    """What tells of the session around the span. Other things that others put there are theirs."""
    found: Any = getattr(span, "attributes", None) or {}
    return {name: value for name, value in found.items() if name.startswith(_STAMP)}


STREAM_CUT = "stream_cut"
"""The `error.type` of a stream that the server ended before the answer was over."""

_MOST_CHOICES = 128
"""As many as OpenAI takes."""
_NOTHING: Mapping[str, Any] = {}
_NANOSECONDS = 1_000_000_000
_BEGIN = shield("begin a span")
_READ_ANSWER = shield("read the answer")
_END_SPAN = shield("end the span")


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
    content: Said | None = None,
    captures: bool = True,
) -> Invocation:
    """Begins an operation: starts its span, with all that is known of the request.

    The span belongs to the layer above, where one is under way (a chain, an agent), and is counted
    as one call of the agent around it. Content is captured only where the user asked for it.

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
    with _BEGIN:
        around = context_api.get_current()
        if recording.active and (
            not around or start_time is not None or is_instrumentation_enabled()
        ):
            known: Attributes = {
                semconv.OPERATION_NAME: operation.name,
                **attributes,
                **operation.constants,
            }
            operation.request.read(request, known)
            operation.more_from_request(request, known)
            if stream:
                known[semconv.REQUEST_STREAM] = True
            logger = recording.event_logger() if kind is SpanKind.CLIENT else None
            policy = recording.policy if captures else recording.policy.silenced()
            keeps_content = captures and recording.keeps_content(logger)
            if not keeps_content:
                content = None
            elif content is None:
                content = NOTHING_SAID
                with _BEGIN:
                    content = policy.input_said(operation.input_content(request))
            begun = nesting.begun_in(parent, operation.name, around, known)
            model = known.get(semconv.REQUEST_MODEL)
            span = recording.tracer.start_span(
                name or (operation.name if model is None else f"{operation.name} {model}"),
                begun.context,
                kind,
                {**known, **policy.span_attributes(content)} if content else known,
                start_time=start_time,
            )
            begun.by(span)
            is_measured = recording.metrics.is_on
            inside = calls = None
            # An answer of a cache is no call.
            if semconv.ANSWERED_BY not in known:
                inside, calls = nesting.count(
                    operation.name, begun.context, is_measured=is_measured
                )
            return Invocation(
                operation,
                recording,
                span,
                request=request,
                attributes=known,
                logger=logger,
                policy=policy,
                content=content,
                inside=inside,
                calls=calls,
                start_time=start_time,
                # Samplers thin out traces, and neither metrics nor events.
                is_observed=span.is_recording() or logger is not None or is_measured,
            )
    return Invocation(operation, recording, INVALID_SPAN, is_observed=False)


class Invocation:
    """Owns the span of one operation. Whoever learns first how it went ends it, once.

    As a context manager it makes the span the current one for the code inside, and ends it where
    that code raises. The methods that end it never raise, and do nothing from the second time on.
    """

    __slots__ = (
        *(
            "_attributes",
            "_calls",
            "_entered",
            "_first_chunk",
            "_logger",
            "_open",
            "_operation",
            "_policy",
        ),
        *("_previous", "_request", "_said", "_start_time", "_started", "_recording"),
        *("inside", "span"),
    )

    def __init__(
        self,
        operation: Operation,
        recording: Recording,
        span: Span,
        *,
        request: Mapping[str, Any] = _NOTHING,
        attributes: Attributes | None = None,
        logger: EventLogger | None = None,
        policy: ContentPolicy | None = None,
        content: Said | None = None,
        inside: Inside | None = None,
        calls: AgentCalls | None = None,
        start_time: int | None = None,
        is_observed: bool,
    ) -> None:
        self._operation = operation
        self._recording = recording
        self.span = span
        """Its span."""
        self._request = request
        self._attributes: Attributes = {} if attributes is None else attributes
        self._logger = logger
        self._policy = policy or recording.policy
        self._said = content
        self.inside = inside
        """The agent for whose run the calls inside this operation count."""
        self._calls = calls
        self._start_time = start_time
        self._started = perf_counter()
        self._first_chunk: float | None = None
        # A list that is emptied once: popping is atomic, so two threads can't both end the span. It
        # holds the process that does: a forked child leaves the calls of its parent to that.
        self._open = [os.getpid()] if is_observed else []

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
    def operation(self) -> Operation:
        """What is being called."""
        return self._operation

    @property
    def keeps_content(self) -> bool:
        """Whether what passes is to be kept, for the span or an event."""
        return self._said is not None

    @property
    def unfinished(self) -> Unfinished:
        """Where whoever observes the answer says that it is open."""
        return self._recording.unfinished

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
        metrics, operation = self._recording.metrics, self._operation
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
        """Ends the span of a stream: read to its end, `left` by the caller, or broken.

        Args:
            accumulator: What the stream brought.
            is_done: Whether the server said that the stream is over, whatever it brought.
            left: Whether the caller left it.
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
                self._end(attributes, failure, error)

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
            attributes: What the answer told.
            messages: The answer's content, in the form of the conventions.
            failure: The `error.type` of a call that failed without an exception.
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
        operation = self._operation
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
        if self._said is not None:
            self._capture(operation.output_content(answer))
        return operation.failure(answer)

    def _capture(self, messages: Sequence[Message]) -> None:
        if self._said is not None and messages:
            said = self._policy.output_said(messages)
            self._said = {**self._said, **said}
            self.span.set_attributes(self._policy.span_attributes(said))

    @property
    def _choices(self) -> int:
        """How many answers were asked for."""
        return min(self._attributes.get(semconv.REQUEST_CHOICE_COUNT, 1), _MOST_CHOICES)

    def _lacks_choices(self, answer: Any) -> bool:
        """Whether a choice never began."""
        return 0 < len(self._operation.finish_reasons(answer)) < self._choices

    def _name_model(self, attributes: Attributes) -> None:
        """A request can name a stored prompt or a deployment; then the answer tells the model."""
        # What fetches an answer asks no model.
        if self._operation.resource_attribute is None and (
            semconv.RESPONSE_MODEL in attributes and semconv.REQUEST_MODEL not in self._attributes
        ):
            model = attributes[semconv.REQUEST_MODEL] = attributes[semconv.RESPONSE_MODEL]
            self.span.update_name(f"{self._operation.name} {model}")

    def _estimate(self, accumulator: Accumulator, attributes: Attributes) -> None:
        if not self._operation.estimates_usage:
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
        span, said = self.span, self._said
        # What is kept for a call ends with the call.
        self._request, self._said = _NOTHING, None
        try:
            if error is not None:
                failure = error_type(error)
                status = http_status(error)
                if status is not None:
                    attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
            if failure is not None:
                attributes[semconv.ERROR_TYPE] = failure
                description = self._policy.span_error_text(error) if error is not None else None
                span.set_status(Status(StatusCode.ERROR, description))
            if attributes:
                span.set_attributes(attributes)
        finally:
            # Runs the processors of other people, so this is inside a shield too.
            if self._logger is None and not self._recording.metrics.is_on:
                span.end(end_time)
            else:
                end_call(
                    span,
                    {**self._attributes, **attributes},
                    self._seconds(end_time),
                    policy=self._policy,
                    metrics=self._recording.metrics,
                    logger=self._logger,
                    said=said or NOTHING_SAID,
                    error=error,
                    at=end_time,
                    calls=self._calls,
                )

    def _seconds(self, end_time: int | None) -> float:
        if self._start_time is None:
            return perf_counter() - self._started
        return ((time_ns() if end_time is None else end_time) - self._start_time) / _NANOSECONDS
