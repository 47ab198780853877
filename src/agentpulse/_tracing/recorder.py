"""Starts the spans of sessions, cron runs, decorated functions and blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._delivery.process import after_fork
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.metrics import Metrics
from agentpulse_instrumentation._engine.nesting import AgentCalls, Inside
from agentpulse_instrumentation._engine.operation import error_type
from agentpulse_instrumentation._shield import shield
from opentelemetry import context as context_api
from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from agentpulse._otel.provider import UrandomIds
from agentpulse._tracing.description import Description
from agentpulse._tracing.scope import Run, Scope, metadata_attributes, scope_of
from agentpulse._tracing.step import Step
from agentpulse._tracing.values import attribute, data_attributes, json_text, label, text_of
from agentpulse.version import VERSION

# `agentpulse.metric` as an OpenTelemetry gauge.

_RECORD = shield("record a metric")
_MOST_GAUGES = 1_000


def record(name: str, value: float, tags: Mapping[str, Any]) -> None:
    """Sets the gauge of that name, in the program's meter provider where there is one."""
    with _RECORD:
        meter = metrics.get_meter("agentpulse", VERSION)
        attributes: Attributes = {key: attribute(tag) for key, tag in tags.items()}
        _gauge(meter, name).set(value, attributes)


@lru_cache(_MOST_GAUGES)
def _gauge(meter: Meter, name: str) -> Any:
    return meter.create_gauge(name)


# Spans without length that are made outside any provider, and become one event each.


def instant(kind: str, name: str, attributes: Mapping[str, Any]) -> ReadableSpan:
    """A span that becomes an event of this kind. No sampler drops it, no other exporter sees it."""
    now = time.time_ns()
    ids = UrandomIds()
    return ReadableSpan(
        name=name,
        context=SpanContext(
            ids.generate_trace_id(),
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        ),
        resource=Resource.get_empty(),
        attributes={semconv.SPAN_KIND: kind, **attributes},
        start_time=now,
        end_time=now,
        instrumentation_scope=InstrumentationScope("agentpulse", VERSION),
    )


_BEGIN = shield("begin a span")
_OPERATIONS = {"agent": "invoke_agent", "tool": "execute_tool"}
_NAMES = {"agent": semconv.AGENT_NAME, "tool": semconv.TOOL_NAME}


class Recorder:
    """Makes spans of ours on one tracer."""

    def __init__(
        self, tracer: Tracer, send: Callable[[ReadableSpan], None], *, captures: bool
    ) -> None:
        """Makes spans on `tracer`, and has events that its sampler drops sent by `send`.

        `captures`: whether content is recorded where nothing else is said.
        """
        self._tracer = tracer
        self._send = send
        self._captures = captures
        self._metrics = Metrics("agentpulse", None)
        # By the clock of the events, which goes on while the machine sleeps: so a receiver knows by
        # a heartbeat which process it came from.
        self._started = time.time()
        self.defaults: Mapping[str, Any] = {}
        """User and metadata of what happens outside any session."""
        self._under_way: WeakSet[object] = WeakSet()
        self._process, self._parent = os.getpid(), 0
        after_fork(self._in_child)

    def vital_signs(self) -> dict[str, float]:
        """What a heartbeat tells: sessions and cron runs under way, and seconds since the start."""
        uptime = round(max(time.time() - self._started, 0.0), 3)
        return {"active_sessions": len(self._under_way), "uptime_s": uptime}

    def begin(
        self,
        description: Description,
        call: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
    ) -> Step | None:
        """The step of a call, its span started but not current yet; None if that failed."""
        with _BEGIN:
            context = context_api.get_current()
            found = scope_of(context)
            description = _as_called(description, found)
            scope = self._scope(description, found)
            links: list[Link] = []
            if description.session is not None and found is not None and scope.outer is None:
                context, links = _as_root(context)
            attributes = self._attributes(description, scope)
            said = {} if call is None else self._arguments(description, *call)
            operation = _OPERATIONS.get(description.kind)
            span = self._tracer.start_span(
                f"{operation} {description.name}" if operation else description.name,
                context,
                SpanKind.INTERNAL,
                {**attributes, **said} if said else attributes,
                links,
            )
            if description.kind == "tool" and scope.agent is not None:
                attributes[semconv.CALLED_IN_AGENT] = scope.agent
            calls = None
            if operation is not None:
                calls, context = self._counted(description, context)
            return Step(
                description,
                span,
                scope,
                context,
                self._metrics,
                attributes,
                calls,
                captures=self._captures,
            )
        return None

    def _counted(
        self, description: Description, context: Context
    ) -> tuple[AgentCalls | None, Context]:
        """Counts a tool for the agent that calls it; what an agent calls is counted in a new one.

        Returns:
            The calls of an agent that begins, and the context for what is inside.
        """
        if description.kind == "agent" and self._metrics.is_on:
            calls = AgentCalls()
            return calls, nesting.within(Inside(calls), context)
        place = nesting.inside(context)
        if description.kind == "tool" and place is not None:
            return None, nesting.within(place.in_tool(), context)
        return None, context

    def instant(self, kind: str, name: str, data: Callable[[], Mapping[str, object]]) -> None:
        """A span without length: something that happened now, and here. Never raises."""
        with _BEGIN:
            attributes = data_attributes(data())
            now = time.time_ns()
            name = label(name)
            span = self._tracer.start_span(
                # Of too many attributes the first are lost, so what says what it is comes last.
                name,
                attributes={**attributes, semconv.SPAN_KIND: kind},
                start_time=now,
            )
            if span.is_recording():
                span.end(now)
                return
            # Samplers thin out traces. What a program tells by name is told.
            run = _current_run()
            stamp = self.defaults if run is None else run.stamp
            self._send(instant(kind, name, {**stamp, **attributes}))

    def crashed(self, error: BaseException, where: str) -> None:
        """An exception that nobody handled, in the main thread, a thread or asyncio."""
        with _BEGIN:
            kind = error_type(error)
            told = {"error_type": kind, "where": where}
            if self._captures:
                told["error"] = text_of(error)
            self.instant("error", kind, lambda: told)

    def sign_of_life(self) -> ReadableSpan | None:
        """The heartbeat that is sent by itself. A forked child leaves it to a parent that lives."""
        if self._parent and os.getppid() == self._parent:
            return None
        return instant("heartbeat", "heartbeat", data_attributes(self.vital_signs()))

    def set_user(self, user: str | None) -> None:
        """The user of the session around this, or of all that happens outside any."""
        with _BEGIN:
            run = _current_run()
            if run is not None:
                run.set_user(user)
            elif user is not None:
                self.defaults = {**self.defaults, semconv.USER_ID: str(user)}

    def set_metadata(self, values: Mapping[str, Any]) -> None:
        """Metadata of the session around this, or of all that happens outside any."""
        with _BEGIN:
            run = _current_run()
            if run is not None:
                run.set_metadata(values)
            else:
                told = metadata_attributes(values, beside=self.defaults)
                self.defaults = {**self.defaults, **told}

    def session_opened(self, session: object) -> None:
        """Counts a session that is under way."""
        self._under_way.add(session)

    def session_closed(self, session: object) -> None:
        """Counts it off."""
        self._under_way.discard(session)

    def _in_child(self) -> None:
        # What is under way was begun by the parent, which ends it.
        self._under_way = WeakSet()
        self._started = time.monotonic()
        self._process, self._parent = os.getpid(), self._process

    def _scope(self, description: Description, found: Scope | None) -> Scope:
        outer = None if found is None else found.still_open
        run = found.run if found is not None else None
        agent = found.agent if found is not None else None
        if description.session is not None:
            around = None if outer is None else outer.run
            run = Run(description, description.session, around, self.defaults)
            agent = None if outer is None else outer.agent
        if description.kind == "agent":
            agent = description.name
        return Scope(outer, run, agent)

    def _attributes(self, description: Description, scope: Scope) -> dict[str, Any]:
        kind = description.kind
        attributes: dict[str, Any] = {semconv.SPAN_KIND: kind}
        operation = _OPERATIONS.get(kind)
        if operation is not None:
            attributes[semconv.OPERATION_NAME] = operation
            attributes[_NAMES[kind]] = description.name
        if description.method is not None:
            attributes[semconv.CODE_FUNCTION] = description.method
        if True in (description.capture_args, description.capture_result):
            attributes[semconv.CAPTURED] = True
        given = {name: attribute(told) for name, told in (description.attributes or {}).items()}
        # Theirs count, and come first, for of too many attributes the first are lost.
        attributes = {**given, **attributes, **given}
        options = description.session
        if options is not None and scope.run is not None:
            attributes |= scope.run.stamp
            told = {
                semconv.CRON_SCHEDULE: options.schedule,
                semconv.CRON_TIMEZONE: options.timezone,
                semconv.CRON_MAX_RUNTIME: options.max_runtime,
            }
            attributes |= {name: value for name, value in told.items() if value is not None}
        return attributes

    def _arguments(
        self, description: Description, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        wanted = description.capture_args
        if not (self._captures if wanted is None else wanted):
            return {}
        given: dict[str, Any] = dict(kwargs)
        if description.signature is not None:
            try:
                given = description.signature.bind_partial(*args, **kwargs).arguments
            except TypeError:
                return {}  # the call itself will say what is wrong with it
        given = {name: value for name, value in given.items() if name not in ("self", "cls")}
        name = semconv.TOOL_CALL_ARGUMENTS if description.kind == "tool" else semconv.ARGUMENTS
        return {name: json_text(given)}


def _as_root(context: Context) -> tuple[Context, list[Link]]:
    """The context of a run that comes from something that is over: a trace of its own."""
    current = get_current_span(context)
    if current.is_recording():
        return context, []
    return set_span_in_context(INVALID_SPAN, context), [Link(current.get_span_context())]


def _as_called(description: Description, outer: Scope | None) -> Description:
    """A method that a decorated agent calls on itself is a task of the agent's, not another run."""
    method = description.method
    if method is None or outer is None or outer.agent != description.name:
        return description
    return replace(description, kind="task", name=method, method=None)


def _current_run() -> Run | None:
    scope = scope_of(context_api.get_current())
    return None if scope is None else scope.run
