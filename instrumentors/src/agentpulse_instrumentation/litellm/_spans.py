"""The spans of LiteLLM's own calls: each is made when the call is over, with the times it had."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import time_ns
from typing import Any

from opentelemetry.context import Context

from agentpulse_instrumentation._engine import operation as op
from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import get
from agentpulse_instrumentation._engine.invocation import begin
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation.litellm import _content as content
from agentpulse_instrumentation.litellm._bodies import NO_BODY, Body

_READ = shield("read the answer")
_NANOSECONDS = 1_000_000_000
_IDENTITY = (semconv.RESPONSE_ID, semconv.RESPONSE_MODEL)
# LiteLLM gives every exception a status, also where no server sent one; the exception that it was
# made of decides. Base classes of httpx, aiohttp, openai and Python itself.
_ANSWERS = {"HTTPStatusError", "ClientResponseError", "APIStatusError"}
_NO_ANSWERS = {"TransportError", "ClientConnectionError", "ConnectionError", "TimeoutError"}
_DEEPEST = 8


@dataclass(slots=True, eq=False)
class Attempt:
    """One request to a provider, or a call that is answered without one."""

    operation: op.Operation
    context: Context
    """The context that its span belongs to."""
    started: int = field(default_factory=time_ns)
    """Nanoseconds since 1970."""
    request: dict[str, Any] = field(default_factory=dict[str, Any])
    attributes: op.Attributes = field(default_factory=dict[str, Any])
    """Those known before the answer that are no part of the request."""
    is_sent: bool = False
    """Whether a provider was to be asked."""
    is_stream: bool = False
    """Whether the caller gets the answer piece by piece."""
    answered_by: str | None = None
    """`mock` or `cache`, where no provider was asked."""
    characters: int = 0
    """How much text came so far, as far as LiteLLM reports the chunks of a stream."""
    raw: str | None = None
    """The body that the provider sent, where LiteLLM logs it."""
    answered_at: object = None
    """When the answer was there, or the last chunk of it that came, as `_nanoseconds` reads it."""
    body: Body = NO_BODY
    """What LiteLLM's own HTTP client received; a client underneath keeps its own to itself."""
    process: int = field(default_factory=os.getpid)
    """In which it began, and which alone makes its span."""

    @property
    def is_billed(self) -> bool:
        """Whether a provider may charge for it."""
        return self.is_sent and self.answered_by is None


Read = Callable[[Attempt, bool], content.Answer]
"""Reads how an attempt ended, and its content where that is kept."""


def record(
    recording: Recording, attempt: Attempt, read: Read, error: BaseException | None = None
) -> None:
    """Makes the span of an attempt that is over."""
    if attempt.answered_by is not None:
        attempt.attributes[semconv.ANSWERED_BY] = attempt.answered_by
    invocation = begin(
        recording,
        attempt.operation,
        attempt.request,
        attempt.attributes,
        stream=attempt.is_stream,
        parent=attempt.context,
        start_time=attempt.started,
        # Some users keep messages from LiteLLM's callbacks, and so from us.
        captures=content.of_litellm("turn_off_message_logging") is not True,
    )
    if not invocation.is_open:
        return
    answer = content.Answer()
    with _READ:
        answer = read(attempt, invocation.keeps_content)
    invocation.ended(
        answer.attributes,
        messages=answer.messages,
        failure=answer.failure,
        error=error,
        end_time=max(_nanoseconds(attempt.answered_at) or time_ns(), attempt.started),
    )


def answered(logging: Any, result: Any) -> Read:
    """For an attempt that was answered, by a provider, a cache or a mock."""

    def read(attempt: Attempt, with_content: bool) -> content.Answer:
        answer, body = _read(attempt, result, with_content), attempt.body
        attributes, failure = answer.attributes, body.failure
        if attempt.is_stream and (failure is not None or body.is_partial):
            # Of a stream that isn't whole, LiteLLM makes up the usage, and with it the cost.
            attempt.characters = max(attempt.characters, content.characters(result))
            known = {name: attributes[name] for name in _IDENTITY if name in attributes}
            answer = content.Answer(_cut_short(attempt, known), answer.messages, failure)
        elif attempt.answered_by is None and (cost := _cost(result, logging)) is not None:
            attributes[semconv.COST_FALLBACK] = cost
        waited = (_first_chunk(logging) or 0) - attempt.started
        if attempt.is_stream and waited >= 0:
            answer.attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = waited / _NANOSECONDS
        return answer

    return read


def failed(logging: Any, error: BaseException) -> Read:
    """For an attempt that raised."""

    def read(attempt: Attempt, _with_content: bool) -> content.Answer:
        body, attributes = attempt.body, op.Attributes()
        if attempt.is_stream and (body.has_begun or _first_chunk(logging) is not None):
            attributes = _cut_short(attempt, attributes)
        status = op.http_status(error) if attempt.is_billed else None
        if status is not None and _was_answered(error):
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = status
        # What LiteLLM raises for an answer that reports an error is often what reading it raised.
        return content.Answer(attributes, failure=body.error or op.error_type(error))

    return read


def unfinished(attempt: Attempt, with_content: bool) -> content.Answer:
    """For an attempt whose end LiteLLM never logged: cancelled, closed early, or answered.

    LiteLLM is silent about the last of several async tries that it makes by itself.
    """
    if attempt.is_stream:
        return content.Answer(_cut_short(attempt, {}), failure=attempt.body.failure)
    body = content.parsed(attempt.raw)
    if not body or "error" in body:
        return content.Answer(failure=attempt.body.failure or op.UNKNOWN)
    return _read(attempt, body, with_content)


def _read(attempt: Attempt, result: Any, with_content: bool) -> content.Answer:
    # LiteLLM never logs the body of a stream, and vectors are much to read for nothing.
    knows_body = not attempt.is_stream and attempt.operation.name != "embeddings"
    body: Mapping[str, Any] = content.parsed(attempt.raw) if knows_body else {}
    provider = attempt.attributes.get(semconv.PROVIDER_NAME)
    answer = content.read_answer(result, body, provider=provider, with_content=with_content)
    answer.failure = answer.failure or attempt.body.failure
    if attempt.answered_by is not None:
        # Where no provider was asked, no tokens were used and nothing is billed.
        kept = (*_IDENTITY, semconv.RESPONSE_FINISH_REASONS)
        found = answer.attributes
        answer.attributes = {name: found[name] for name in kept if name in found}
    return answer


def _cut_short(attempt: Attempt, attributes: op.Attributes) -> op.Attributes:
    """Adds what is known of a stream that isn't whole; nothing where no answer began."""
    body, stream = attempt.body, attempt.body.stream
    if not body.has_answer:
        return {}
    reasons = [reason or "error" for reason in body.read(attributes) or [None]]
    attributes[semconv.RESPONSE_FINISH_REASONS] = reasons
    if stream is not None and stream.reported_usage():
        return attributes
    if attempt.operation.estimates_usage and attempt.is_billed:
        attributes.setdefault(semconv.USAGE_INPUT_TOKENS, op.input_tokens(attempt.request))
        attributes[semconv.USAGE_ESTIMATED] = True
        came = attempt.characters or None if stream is None else stream.received_characters()
        if came is not None:
            attributes[semconv.USAGE_OUTPUT_TOKENS] = op.tokens(came)
    return attributes


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
    """LiteLLM's figure for the call, in USD; None where it has none (it gives 0 then too)."""
    hidden = getattr(result, "_hidden_params", None)
    for cost in (get(hidden, "response_cost"), logging.model_call_details.get("response_cost")):
        if isinstance(cost, int | float) and cost > 0:
            return float(cost)
    return None
