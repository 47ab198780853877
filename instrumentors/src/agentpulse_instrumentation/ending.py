"""The end of a call: its log events, its span and its metrics, which say the same."""

from __future__ import annotations

from time import time_ns
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, set_span_in_context

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation.agents import AgentCalls
from agentpulse_instrumentation.events import EventLogger
from agentpulse_instrumentation.measures import INFERENCE
from agentpulse_instrumentation.metrics import Metrics
from agentpulse_instrumentation.operation import Attributes
from agentpulse_instrumentation.policy import NOTHING_SAID, ContentPolicy, Said
from agentpulse_instrumentation.shield import shield

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
