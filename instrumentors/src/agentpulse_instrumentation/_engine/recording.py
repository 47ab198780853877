"""Where calls are recorded: the tracer, log events and metrics of one `instrument()` in force.

The end of a call: its log events by the conventions, its span and its metrics say the same. Events
go to the logger provider given, or to the global one if there is one, also one set later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from time import time_ns
from typing import Any, Protocol
from weakref import ReferenceType, ref

from opentelemetry._logs import (
    Logger,
    LoggerProvider,
    LogRecord,
    SeverityNumber,
    get_logger_provider,
)
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, Tracer, TracerProvider, set_span_in_context

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content, ContentPolicy
from agentpulse_instrumentation._engine.metrics import Metrics
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import INFERENCE, Attributes
from agentpulse_instrumentation._engine.patching import Patches
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation._version import VERSION

_FIND = shield("find a logger")
_EMIT = shield("emit an event")
_LEAVE = shield("end what is unfinished")
_SESSION = (
    *("session.id", "user.id", "agentpulse.session.", "agentpulse.metadata."),
    semconv.CALLED_IN_AGENT,
)
"""The beginnings of the names of a session's attributes."""
_OWN_RECORDS = ("1.36.", "1.37.")
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"


def emit(
    logger: Logger,
    name: str,
    severity: SeverityNumber,
    span: Span,
    attributes: Mapping[str, Any],
    timestamp: int,
) -> None:
    """Emits an event of a span, at a time in nanoseconds since 1970."""
    record = _record_type(logger)(
        event_name=name,
        severity_number=severity,
        severity_text=severity.name,
        context=set_span_in_context(span),
        attributes=attributes,
        timestamp=timestamp,
    )
    logger.emit(record)


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


@dataclass(slots=True, eq=False)
class Events:
    """Finds where the events of one scope, the instrumentation's name, go."""

    scope: str
    provider: LoggerProvider | None
    _found: tuple[LoggerProvider | None, Logger | None] = field(default=(None, None), init=False)

    def logger(self) -> Logger | None:
        """Where the events of a call that begins now go; None where nobody takes them.

        Never raises: a provider that fails costs the events, and not the span.
        """
        with _FIND:
            provider = self.provider or get_logger_provider()
            known, logger = self._found
            if provider is not known:
                # Where none was set, the API hands out a stand-in, whose class has no public name.
                is_one = type(provider).__name__ != "ProxyLoggerProvider"
                url = semconv.SCHEMA_URL
                logger = (
                    provider.get_logger(self.scope, VERSION, schema_url=url) if is_one else None
                )
                self._found = provider, logger
            # OpenTelemetry has this question since 1.45.
            is_enabled: Callable[..., bool] = getattr(logger, "enabled", _always)
            if is_enabled(severity_number=SeverityNumber.DEBUG, event_name=DETAILS):
                return logger
        return None


def _always(**_event: object) -> bool:
    return True


class Leavable(Protocol):
    """Something whose span ends when it is left."""

    def left(self) -> None:
        """Nobody will go on with it."""


class Unfinished:
    """The answers of one `instrument()` that nobody has read to their end or closed, held weakly.

    Their spans end when recording stops, with what came until then, so that no call is lost with
    the process. Any thread may add and discard.
    """

    __slots__ = ("_things",)

    def __init__(self) -> None:
        self._things: dict[int, ReferenceType[Leavable]] = {}

    def add(self, thing: Leavable) -> None:
        """Notes a thing that is open from now on, until it is discarded."""
        self._things[id(thing)] = ref(thing)

    def discard(self, thing: Leavable) -> None:
        """Forgets it, as whoever adds must do no later than when it is finalized."""
        self._things.pop(id(thing), None)

    def leave(self) -> None:
        """Leaves all of them. In a forked child, those of its parent end nothing by that."""
        for reference in list(self._things.values()):
            thing = reference()
            if thing is not None:
                # One that can't be ended keeps no other open.
                with _LEAVE:
                    thing.left()


@dataclass(eq=False)
class Recording:
    """One `instrument()` in force: where it records to and what, until it is taken back."""

    tracer: Tracer
    provider: TracerProvider | None
    """Where the spans go, as given; None for the global provider."""
    policy: ContentPolicy
    metrics: Metrics
    events: Events
    patches: dict[str, Patches] = field(default_factory=dict[str, Patches])
    """By the name of the library, in the order in which they are put on."""
    unfinished: Unfinished = field(default_factory=Unfinished)
    active: bool = True
    """False once uninstrumented: a wrapper that is still in somebody's hands passes through."""

    def event_logger(self) -> Logger | None:
        """Where the events of a call that begins now go; None where none are wanted or taken."""
        return self.events.logger() if self.policy.emits_events else None

    def keeps_content(self, logger: Logger | None) -> bool:
        """Whether there is a use for the content of a call whose events go to that logger."""
        return self.policy.on_spans or (self.policy.on_events and logger is not None)


def end_call(
    span: Span,
    attributes: Attributes,
    seconds: float,
    *,
    policy: ContentPolicy,
    metrics: Metrics,
    logger: Logger | None = None,
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
            # What takes them may ask a model itself, which would be events again. The span is
            # still open, for whoever puts events onto it.
            with _EMIT, suppress_instrumentation():
                if error is not None:
                    of_error = policy.exception_attributes(error)
                    emit(logger, EXCEPTION, SeverityNumber.WARN, span, of_error, at)
                if attributes.get(semconv.OPERATION_NAME) in INFERENCE:
                    # Of what others put onto the span, the events have the session.
                    found: Any = getattr(span, "attributes", None) or {}
                    session = {n: value for n, value in found.items() if n.startswith(_SESSION)}
                    of_span = policy.event_attributes({**session, **attributes}, content)
                    emit(logger, DETAILS, SeverityNumber.DEBUG, span, of_span, at)
    finally:
        span.end(at)
        metrics.record(span, attributes, seconds, calls)
