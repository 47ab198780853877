"""One call of a user's program and its span: begun before the request, ended exactly once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter, time_ns
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import usage
from agentpulse_instrumentation._engine.content import NOTHING_SAID, ContentPolicy, Said
from agentpulse_instrumentation._engine.events import EventLogger
from agentpulse_instrumentation._engine.instrumentor import Unfinished, Wanted
from agentpulse_instrumentation._engine.metrics import INFERENCE, ChunkTimes, Metrics
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import (
    Accumulator,
    Attributes,
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
_NO_BODY: Mapping[str, Any] = {}
_READ_ANSWER = shield("read the answer")
_END_SPAN = shield("end the span")


class Invocation:
    """Owns the span of one call. Whoever learns first how the call went ends it, once."""

    __slots__ = (
        *("_attributes", "_body", "_first_chunk", "_logger", "_open", "_operation"),
        *("_said", "_span", "_started", "_wanted"),
    )

    def __init__(
        self,
        operation: Operation,
        wanted: Wanted,
        span: Span,
        body: Mapping[str, Any],
        attributes: Attributes,
        logger: EventLogger | None,
        said: Said | None,
    ) -> None:
        """Begins now.

        Args:
            operation: What is being called.
            wanted: What is recorded of it.
            span: Its span, which is recorded or not.
            body: The request.
            attributes: What the span was given, but for content.
            logger: Where its events go.
            said: The content of the request; None where content is not to be read.
        """
        self._operation = operation
        self._wanted = wanted
        self._span = span
        self._body = body
        self._attributes = attributes
        self._logger = logger
        self._said = said
        self._started = perf_counter()
        self._first_chunk: float | None = None
        # A list that is emptied once: popping is atomic, so two threads can't both end the span. It
        # holds the process that does: a forked child leaves the calls of its parent to that.
        self._open = [os.getpid()]

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
        return self._wanted.unfinished

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
        metrics, operation = self._wanted.metrics, self._operation
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
        if self._close():
            with _END_SPAN:
                self._end({}, None, error)

    def ended_unread(self) -> None:
        """Ends the span of a call whose answer says nothing: bytes, or a body nobody read."""
        if self._close():
            with _END_SPAN:
                self._end({}, None)

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
            policy = self._wanted.policy
            said = policy.output_said(operation.output_content(answer))
            self._said = {**self._said, **said}
            self._span.set_attributes(policy.span_attributes(said))
        return operation.failure(answer)

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
            self._span.update_name(f"{self._operation.name} {model}")

    def _estimate(self, accumulator: Accumulator, attributes: Attributes) -> None:
        if not self._operation.estimates_usage:
            return
        if semconv.USAGE_INPUT_TOKENS not in attributes:
            attributes[semconv.USAGE_INPUT_TOKENS] = usage.input_tokens(self._body)
        attributes[semconv.USAGE_OUTPUT_TOKENS] = usage.tokens(accumulator.received_characters())
        attributes[semconv.USAGE_ESTIMATED] = True

    def _end(
        self, attributes: Attributes, failure: str | None, error: BaseException | None = None
    ) -> None:
        span, said = self._span, self._said
        # What is kept for a call ends with the call.
        self._body, self._said = _NO_BODY, None
        try:
            if error is not None:
                failure = error_type(error)
                status = http_status(error)
                if status is not None:
                    attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
            if failure is not None:
                attributes[semconv.ERROR_TYPE] = failure
                description = (
                    self._wanted.policy.span_error_text(error) if error is not None else None
                )
                span.set_status(Status(StatusCode.ERROR, description))
            if attributes:
                span.set_attributes(attributes)
        finally:
            # Runs the processors of other people, so this is inside a shield too.
            if self._logger is None and not self._wanted.metrics.is_on:
                span.end()
            else:
                end_call(
                    span,
                    {**self._attributes, **attributes},
                    perf_counter() - self._started,
                    policy=self._wanted.policy,
                    metrics=self._wanted.metrics,
                    logger=self._logger,
                    said=said or NOTHING_SAID,
                    error=error,
                )
