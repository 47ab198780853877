"""The end of a call: its log events by the conventions, its span and its metrics say the same.

Events go to the logger provider given, or to the global one if there is one, also one set later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from time import time_ns
from typing import Any

from opentelemetry._logs import (
    Logger,
    LoggerProvider,
    LogRecord,
    SeverityNumber,
    get_logger_provider,
)
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, set_span_in_context

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.metrics import Metrics
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import INFERENCE, Attributes
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation._version import VERSION

_FIND = shield("find a logger")
_EMIT = shield("emit an event")
_SESSION = (
    *("session.id", "user.id", "agentpulse.session.", "agentpulse.metadata."),
    semconv.CALLED_IN_AGENT,
)
"""The beginnings of the names of a session's attributes."""
_OWN_RECORDS = ("1.36.", "1.37.")
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"


class EventLogger:
    """Emits events on a logger."""

    __slots__ = ("_is_enabled", "_logger", "_make_record")

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._make_record = _record_type(logger)
        # OpenTelemetry has this question since 1.45.
        self._is_enabled: Callable[..., bool] | None = getattr(logger, "enabled", None)

    @property
    def is_enabled(self) -> bool:
        """Whether anybody takes the events now."""
        enabled = self._is_enabled
        return enabled is None or enabled(severity_number=SeverityNumber.DEBUG, event_name=DETAILS)

    def emit_details(self, context: Context, attributes: Mapping[str, Any], timestamp: int) -> None:
        """Describes an inference that ended at `timestamp`, in nanoseconds since 1970."""
        self._emit(DETAILS, SeverityNumber.DEBUG, context, attributes, timestamp)

    def emit_exception(
        self, context: Context, attributes: Mapping[str, Any], timestamp: int
    ) -> None:
        """Records the exception that ended a call."""
        self._emit(EXCEPTION, SeverityNumber.WARN, context, attributes, timestamp)

    def _emit(
        self,
        name: str,
        severity: SeverityNumber,
        context: Context,
        attributes: Mapping[str, Any],
        timestamp: int,
    ) -> None:
        record = self._make_record(
            event_name=name,
            severity_number=severity,
            severity_text=severity.name,
            context=context,
            attributes=attributes,
            timestamp=timestamp,
        )
        self._logger.emit(record)


class Events:
    """Finds where the events of one scope go."""

    def __init__(self, scope: str, provider: LoggerProvider | None) -> None:
        """`scope` is the instrumentation's name."""
        self._scope = scope
        self._provider = provider
        self._found: tuple[LoggerProvider | None, EventLogger | None] = None, None

    def logger(self) -> EventLogger | None:
        """Where the events of a call that begins now go; None where nobody takes them.

        Never raises: a provider that fails costs the events, and not the span.
        """
        with _FIND:
            provider = self._provider or get_logger_provider()
            known, logger = self._found
            if provider is not known:
                logger = self._logger_of(provider)
                self._found = provider, logger
            if logger is not None and logger.is_enabled:
                return logger
        return None

    def _logger_of(self, provider: LoggerProvider) -> EventLogger | None:
        # Where none was set, the API hands out a stand-in, whose class has no public name.
        if type(provider).__name__ == "ProxyLoggerProvider":
            return None
        return EventLogger(provider.get_logger(self._scope, VERSION, schema_url=semconv.SCHEMA_URL))


def _record_type(logger: Logger) -> Callable[..., LogRecord]:
    module = type(logger).__module__
    is_sdk = module.startswith("opentelemetry.sdk.")
    # By its own module: in a packaged program its metadata may be missing.
    if is_sdk and import_module("opentelemetry.sdk.version").__version__.startswith(_OWN_RECORDS):
        # The SDK of 1.36 takes only records of its own class, which hold the resource; that of 1.37
        # makes such a record of any other, and warns of how it does that.
        resource = getattr(logger, "resource", None)
        return partial(sys.modules[module].LogRecord, resource=resource)
    return LogRecord


def end_call(
    span: Span,
    attributes: Attributes,
    seconds: float,
    *,
    policy: ContentPolicy,
    metrics: Metrics,
    logger: EventLogger | None = None,
    content: Content = NO_CONTENT,
    error: BaseException | None = None,
    at: int | None = None,
    calls: AgentCalls | None = None,
) -> None:
    """Emits the events of a call, ends its span, and measures it.

    That runs the processors of other people, so whoever calls this is inside a shield.

    Args:
        span: The span, which has all its attributes.
        attributes: What the span was given, but for content.
        seconds: How long the call took, where the span has no times of its own.
        policy: The policy of content.
        metrics: What measures the call.
        logger: Takes the events; None for none.
        content: The content.
        error: What the call raised.
        at: When it ended, in nanoseconds since 1970; None for now.
        calls: Those that it made, where it is an agent's run.
    """
    try:
        if logger is not None:
            # What takes the events may take its time, which is none of the call's.
            at = time_ns() if at is None else at
            # What takes them may ask a model itself, which would be events again.
            with _EMIT, suppress_instrumentation():
                # While the span is open, for whoever puts events onto it.
                context = set_span_in_context(span)
                if error is not None:
                    logger.emit_exception(context, policy.exception_attributes(error), at)
                if attributes.get(semconv.OPERATION_NAME) in INFERENCE:
                    # Of what others put onto the span, the events have the session.
                    found: Any = getattr(span, "attributes", None) or {}
                    session = {n: value for n, value in found.items() if n.startswith(_SESSION)}
                    of_span = policy.event_attributes({**session, **attributes}, content)
                    logger.emit_details(context, of_span, at)
    finally:
        span.end(at)
        metrics.record(span, attributes, seconds, calls)
