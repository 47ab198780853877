"""The spans of LiteLLM's own calls: each is made when the call is over, with the times it had."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from time import time_ns
from typing import Any

from opentelemetry._logs import Logger
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.operation import (
    INFERENCE,
    Attributes,
    error_type,
    get,
    http_status,
    input_tokens,
    tokens,
)
from agentpulse_instrumentation._engine.recording import Recording, end_call
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.litellm._answers import answer_characters, parsed_body, read_answer
from agentpulse_instrumentation.litellm._bodies import Body
from agentpulse_instrumentation.litellm._calls import Attempt
from agentpulse_instrumentation.litellm._requests import hides_content, request_body, streams

_READ = shield("read content")
_NANOSECONDS = 1_000_000_000
_IDENTITY = (semconv.RESPONSE_ID, semconv.RESPONSE_MODEL)
_NEVER_ANSWERED = "_OTHER"
# LiteLLM gives every exception a status, also where no server sent one; what it made the exception
# of tells. Base classes of httpx, aiohttp, openai and Python itself.
_ANSWERS = {"HTTPStatusError", "ClientResponseError", "APIStatusError"}
_NO_ANSWERS = {"TransportError", "ClientConnectionError", "ConnectionError", "TimeoutError"}
_DEEPEST = 8


@dataclass(slots=True)
class _Record:
    """A call that is over, its span begun."""

    attempt: Attempt
    span: Span
    policy: ContentPolicy
    logger: Logger | None
    keeps_content: bool
    content: Content
    attributes: Attributes = field(default_factory=dict[str, Any])
    """What is known beside what the span began with."""


class Spans:
    """Makes the spans of one `instrument()`."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Recording) -> None:
        self._wanted = wanted

    def answered(
        self, attempt: Attempt, context: Context, logging: Any, result: Any, end: object
    ) -> None:
        """The span of a call that was answered, by a provider, a cache or a mock."""
        record = self._start(attempt, context, logging)
        failure = None
        try:
            if (
                record.span.is_recording()
                or record.logger is not None
                or self._wanted.metrics.is_on
            ):
                failure = _read(record, logging, result)
        finally:
            self._end(record, failure, end)

    def failed(
        self,
        attempt: Attempt,
        context: Context,
        logging: Any,
        error: BaseException,
        end: object = None,
    ) -> None:
        """The span of a call that raised."""
        record = self._start(attempt, context, logging)
        # What breaks a stream is wrapped for the router, which goes on with another model.
        error = getattr(error, "original_exception", None) or error
        status = http_status(error) if attempt.is_billed else None
        if status is not None and _was_answered(error):
            record.attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
        body = attempt.body
        is_begun = _first_chunk(logging) is not None or (body is not None and body.has_begun)
        if semconv.REQUEST_STREAM in attempt.attributes and is_begun:
            with _READ:
                _cut_short(record, body)
        # What LiteLLM raises for an answer that reports an error is often what reading it raised.
        reported = None if body is None else body.failure
        self._end(record, reported or error_type(error), end, error)

    def unfinished(self, attempt: Attempt, context: Context) -> None:
        """The span of a call whose end LiteLLM never logged: cancelled, closed early, or answered.

        LiteLLM is silent about the last of several async tries that it makes by itself.
        """
        record = self._start(attempt, context, None)
        failure = None
        try:
            answer, failure = parsed_body(attempt.raw), attempt.failure
            if semconv.REQUEST_STREAM in attempt.attributes:
                # More of a stream may have come than a caller who left it saw.
                _cut_short(record, None if failure is None else attempt.body)
            elif answer and "error" not in answer:
                failure = _read_answer(record, answer) or failure
            else:
                failure = failure or _NEVER_ANSWERED
        finally:
            self._end(record, failure, attempt.answered_at)

    def _start(self, attempt: Attempt, context: Context, logging: Any | None) -> _Record:
        attributes, operation, wanted = attempt.attributes, attempt.operation, self._wanted
        if attempt.answered_by is not None:
            attributes[semconv.ANSWERED_BY] = attempt.answered_by
        elif operation.name in INFERENCE:
            nesting.count_inference(context)
        logger, hides = wanted.event_logger(), hides_content()
        policy = wanted.policy.silenced() if hides else wanted.policy
        keeps_content = not hides and wanted.keeps_content(logger)
        content: Content = NO_CONTENT
        if logging is not None and keeps_content:
            with _READ:
                content = policy.input_attributes(operation.input_content(request_body(logging)))
        model = attributes.get(semconv.REQUEST_MODEL)
        span = wanted.tracer.start_span(
            operation.name if model is None else f"{operation.name} {model}",
            context,
            SpanKind.CLIENT,
            {**attributes, **policy.span_attributes(content)},
            start_time=attempt.started,
        )
        return _Record(attempt, span, policy, logger, keeps_content, content)

    def _end(
        self,
        record: _Record,
        failure: str | None,
        end: object = None,
        error: BaseException | None = None,
    ) -> None:
        span, attempt, attributes = record.span, record.attempt, record.attributes
        try:
            if failure is not None:
                attributes[semconv.ERROR_TYPE] = failure
                text = None if error is None else record.policy.span_error_text(error)
                span.set_status(Status(StatusCode.ERROR, text))
            if attributes:
                span.set_attributes(attributes)
        finally:
            at = max(_nanoseconds(end) or time_ns(), attempt.started)
            end_call(
                span,
                {**attempt.attributes, **attributes},
                (at - attempt.started) / _NANOSECONDS,
                policy=record.policy,
                metrics=self._wanted.metrics,
                logger=record.logger,
                content=record.content,
                error=error,
                at=at,
            )


def _read(record: _Record, logging: Any, result: Any) -> str | None:
    attempt, attributes = record.attempt, record.attributes
    failure, body = attempt.failure, attempt.body
    is_stream = semconv.REQUEST_STREAM in attempt.attributes
    if is_stream and body is not None and (failure is not None or body.is_partial):
        # Of a stream that isn't whole, LiteLLM makes up the usage, and with it the cost.
        if body.has_answer:
            _read_answer(record, result, _IDENTITY)
            attempt.characters = max(attempt.characters, answer_characters(result))
        _cut_short(record, body)
    else:
        failure = _read_answer(record, result) or failure
        cost = _cost(result, logging) if attempt.answered_by is None else None
        if cost is not None:
            attributes[semconv.COST_FALLBACK] = cost
    first = _first_chunk(logging) if streams(logging) else None
    if first is not None and first >= attempt.started:
        waited = (first - attempt.started) / _NANOSECONDS
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = waited
    return failure


def _read_answer(record: _Record, result: Any, wanted: Collection[str] | None = None) -> str | None:
    """Reads all attributes, or those that are wanted."""
    attempt, attributes = record.attempt, record.attributes
    is_stream = semconv.REQUEST_STREAM in attempt.attributes
    # LiteLLM never logs the body of a stream, and vectors are much to read for nothing.
    knows_body = not is_stream and attempt.operation.name != "embeddings"
    answer = read_answer(
        result,
        parsed_body(attempt.raw) if knows_body else {},
        provider=attempt.attributes.get(semconv.PROVIDER_NAME),
        with_content=record.keeps_content,
    )
    if attempt.answered_by is not None:
        # Where no provider was asked, no tokens were used and nothing is billed.
        wanted = _IDENTITY
    for name, value in answer.attributes.items():
        if wanted is None or name in wanted:
            attributes[name] = value
    reasons = [reason for reason in answer.reasons if reason]
    if reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = reasons
    if record.keeps_content:
        content = record.policy.output_attributes(answer.messages)
        record.content = {**record.content, **content}
        record.span.set_attributes(record.policy.span_attributes(content))
    return answer.failure


def _cut_short(record: _Record, body: Body | None) -> None:
    """What is known of a stream that isn't whole, of which `body` is what came."""
    attempt, attributes = record.attempt, record.attributes
    if body is not None and not body.has_answer:
        return
    reasons = [] if body is None else body.read(attributes)
    attributes[semconv.RESPONSE_FINISH_REASONS] = [reason or "error" for reason in reasons] or [
        "error"
    ]
    if body is not None and body.reported_usage:
        return
    if attempt.operation.estimates_usage and attempt.is_billed:
        request = {"messages": attempt.messages}
        attributes.setdefault(semconv.USAGE_INPUT_TOKENS, input_tokens(request))
        attributes[semconv.USAGE_ESTIMATED] = True
        characters = attempt.characters or None
        if body is not None and body.operation is not None:
            characters = body.characters
        if characters is not None:
            attributes[semconv.USAGE_OUTPUT_TOKENS] = tokens(characters)


def _nanoseconds(moment: object) -> int | None:
    """Since 1970. LiteLLM's times are local ones without a zone."""
    if isinstance(moment, int):
        return moment
    return int(moment.timestamp() * _NANOSECONDS) if isinstance(moment, datetime) else None


def _was_answered(error: BaseException) -> bool:
    """Whether a server answered the request, with an error."""
    cause: BaseException | None = error
    for _ in range(_DEEPEST):
        cause = cause and (cause.__cause__ or cause.__context__)
        # The exceptions of LiteLLM are openai's, whatever they were made of.
        if cause is not None and not type(cause).__module__.startswith("litellm.exceptions"):
            names = {base.__name__ for base in type(cause).__mro__}
            if names & _ANSWERS:
                return True
            if names & _NO_ANSWERS:
                return False
    return type(error).__name__ not in ("APIConnectionError", "Timeout")


def _first_chunk(logging: Any) -> int | None:
    return _nanoseconds(getattr(logging, "completion_start_time", None))


def _cost(result: Any, logging: Any) -> float | None:
    """What LiteLLM thinks the call cost, in USD; None where it has no idea (it says 0 then too)."""
    hidden = getattr(result, "_hidden_params", None)
    for cost in (get(hidden, "response_cost"), logging.model_call_details.get("response_cost")):
        if isinstance(cost, int | float) and cost > 0:
            return float(cost)
    return None
