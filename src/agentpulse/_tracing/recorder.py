"""The recorder: starts the spans of sessions, cron runs, decorated functions, blocks and events."""

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
from agentpulse_instrumentation._engine.operation import error_type
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation._engine.recording import Metrics
from opentelemetry import context as context_api
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, Tracer

from agentpulse import __version__
from agentpulse._otel.provider import UrandomIds
from agentpulse._tracing.decorators import Arguments, Description
from agentpulse._tracing.spans import Run, Stamp, Step, step_of
from agentpulse._tracing.values import attribute, data_attributes, json_text, label, text_of

_BEGIN = shield("begin a span")
_CONVENTIONS = {
    "agent": ("invoke_agent", semconv.AGENT_NAME),
    "tool": ("execute_tool", semconv.TOOL_NAME),
}
"""The operation of a kind of span, and the attribute with its name, by the conventions."""
_OF_JOB = {
    "schedule": semconv.CRON_SCHEDULE,
    "timezone": semconv.CRON_TIMEZONE,
    "max_runtime": semconv.CRON_MAX_RUNTIME,
}
_MOST_GAUGES = 1_000
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Recorder:
    """Makes spans of ours on one tracer."""

    def __init__(
        self, tracer: Tracer, send: Callable[[ReadableSpan], None], *, captures: bool
    ) -> None:
        """Makes spans on `tracer`, and has events that its sampler drops sent by `send`.

        `captures`: whether content is captured where a function has no option of its own.
        """
        self._tracer = tracer
        self._send = send
        self.captures = captures
        self.metrics = Metrics("agentpulse", None)
        # By name, because before there is a meter provider each `get_meter` makes another meter.
        self._gauge = lru_cache(_MOST_GAUGES)(_make_gauge)
        # By the clock of the events, which goes on while the machine sleeps: so a receiver knows by
        # a heartbeat which process it came from.
        self._started = time.time()
        self.outside = Stamp()
        """User and metadata of spans outside any session."""
        self.under_way: WeakSet[Step] = WeakSet()
        """The sessions and cron runs that have not ended."""
        self._process, self._parent = os.getpid(), 0
        after_fork(self._in_child)

    def captured(self, option: bool | None) -> bool:  # an option of a description
        """Whether content is captured, by the option of a function."""
        return self.captures if option is None else option

    def vital_signs(self) -> dict[str, float]:
        """The data of a heartbeat: sessions and cron runs under way, seconds since the start."""
        uptime = round(max(time.time() - self._started, 0.0), 3)
        return {"active_sessions": len(self.under_way), "uptime_s": uptime}

    def begin(self, description: Description, call: Arguments | None = None) -> Step | None:
        """The step of a call, its span started but not current yet; None if that failed."""
        with _BEGIN:
            context = context_api.get_current()
            around = step_of(context)
            description = _as_called(description, around)
            kind = description.kind
            outer, run, agent = self._position(description, around)
            links: list[Link] = []
            if description.is_session and around is not None and outer is None:
                context, links = _as_root(context)
            attributes = self._attributes(description, run)
            arguments = self._arguments(description, call)
            operation, _ = _CONVENTIONS.get(kind, (None, None))
            span = self._tracer.start_span(
                f"{operation} {description.name}" if operation else description.name,
                context,
                SpanKind.INTERNAL,
                {**attributes, **arguments} if arguments else attributes,
                links,
            )
            if kind == "tool" and agent is not None:
                attributes[semconv.CALLED_IN_AGENT] = agent
            calls = None
            if operation is not None:
                calls = nesting.count(operation, context)
                context = nesting.within(calls, context)
            step = Step(self, description, outer, run, agent, span, context, attributes, calls)
            if description.is_session:
                self.under_way.add(step)
            return step
        return None

    def instant(self, kind: str, name: str, data: Callable[[], Mapping[str, object]]) -> None:
        """A span without length: something that happened now, in the current code. Never raises."""
        with _BEGIN:
            attributes = data_attributes(data())
            now = time.time_ns()
            name = label(name)
            # Of too many attributes the first are lost, so the kind comes last.
            span = self._tracer.start_span(
                name, attributes={**attributes, semconv.SPAN_KIND: kind}, start_time=now
            )
            if span.is_recording():
                span.end(now)
            else:
                # Samplers drop traces, but no event that a program names.
                self._send(instant(kind, name, {**self._stamp().attributes, **attributes}))

    def metric(self, name: str, value: float, tags: Mapping[str, Any]) -> None:
        """Sets the gauge of that name, in the program's meter provider where there is one."""
        with _BEGIN:
            self._gauge(name).set(value, {key: attribute(tag) for key, tag in tags.items()})

    def crashed(self, error: BaseException, where: str) -> None:
        """An exception that nobody handled, in the main thread, a thread or asyncio."""
        with _BEGIN:
            kind = error_type(error)
            data = {"error_type": kind, "where": where}
            if self.captures:
                data["error"] = text_of(error)
            self.instant("error", kind, lambda: data)

    def sign_of_life(self) -> ReadableSpan | None:
        """The periodic heartbeat; None in a forked child whose parent lives and sends it."""
        if self._parent and os.getppid() == self._parent:
            return None
        return instant("heartbeat", "heartbeat", data_attributes(self.vital_signs()))

    def set_user(self, user: str | None) -> None:
        """The user of the session around the current code, or outside any."""
        with _BEGIN:
            self._stamp().set_user(user)

    def set_metadata(self, values: Mapping[str, Any]) -> None:
        """Metadata of the session around the current code, or outside any."""
        with _BEGIN:
            self._stamp().set_metadata(values)

    def _stamp(self) -> Stamp:
        step = step_of(context_api.get_current())
        return self.outside if step is None or step.run is None else step.run

    def _in_child(self) -> None:
        # The parent ends the sessions that it began.
        self.under_way = WeakSet()
        self._started = time.time()
        self._process, self._parent = os.getpid(), self._process

    def _position(
        self, description: Description, around: Step | None
    ) -> tuple[Step | None, Run | None, str | None]:
        """The step, the run and the agent that a new span is in."""
        outer = None if around is None else around.still_open
        if description.is_session:
            run, agent = (None, None) if outer is None else (outer.run, outer.agent)
            return outer, Run(description, run or self.outside), agent
        run, agent = (None, None) if around is None else (around.run, around.agent)
        return outer, run, description.name if description.kind == "agent" else agent

    def _attributes(self, description: Description, run: Run | None) -> dict[str, Any]:
        kind = description.kind
        attributes: dict[str, Any] = {semconv.SPAN_KIND: kind}
        if kind in _CONVENTIONS:
            attributes[semconv.OPERATION_NAME], named = _CONVENTIONS[kind]
            attributes[named] = description.name
        if description.method is not None:
            attributes[semconv.CODE_FUNCTION] = description.method
        if True in (description.capture_args, description.capture_result):
            attributes[semconv.CAPTURED] = True
        given = {name: attribute(value) for name, value in (description.attributes or {}).items()}
        # Theirs win, and come first, for of too many attributes the first are lost.
        attributes = {**given, **attributes, **given}
        if description.is_session and run is not None:
            attributes |= run.attributes
            given = ((name, getattr(description, field)) for field, name in _OF_JOB.items())
            attributes |= {name: value for name, value in given if value is not None}
        return attributes

    def _arguments(self, description: Description, call: Arguments | None) -> dict[str, Any]:
        if call is None or not self.captured(description.capture_args):
            return {}
        args, kwargs = call
        given: dict[str, Any] = dict(kwargs)
        if description.signature is not None:
            try:
                given = description.signature.bind_partial(*args, **kwargs).arguments
            except TypeError:
                return {}  # the call itself will raise it
        given = {name: value for name, value in given.items() if name not in ("self", "cls")}
        name = semconv.TOOL_CALL_ARGUMENTS if description.kind == "tool" else semconv.ARGUMENTS
        return {name: json_text(given)}


def instant(kind: str, name: str, attributes: Mapping[str, Any]) -> ReadableSpan:
    """A span that becomes an event of this kind. No sampler drops it, no other exporter sees it."""
    now = time.time_ns()
    trace_id, span_id = UrandomIds().generate_trace_id(), UrandomIds().generate_span_id()
    return ReadableSpan(
        name=name,
        context=SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED),
        resource=Resource.get_empty(),
        attributes={semconv.SPAN_KIND: kind, **attributes},
        start_time=now,
        end_time=now,
        instrumentation_scope=InstrumentationScope("agentpulse", __version__),
    )


def _make_gauge(name: str) -> Any:
    return metrics.get_meter("agentpulse", __version__).create_gauge(name)


def _as_root(context: Context) -> tuple[Context, list[Link]]:
    """The context of a run that comes from something that is over: a trace of its own."""
    current = trace.get_current_span(context)
    if current.is_recording():
        return context, []
    link = Link(current.get_span_context())
    return trace.set_span_in_context(trace.INVALID_SPAN, context), [link]


def _as_called(description: Description, outer: Step | None) -> Description:
    """A method that a decorated agent calls on itself is a task of the agent's, not another run."""
    method = description.method
    if method is None or outer is None or outer.agent != description.name:
        return description
    return replace(description, kind="task", name=method, method=None)
