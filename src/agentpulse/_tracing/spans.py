"""The spans of ours under way, and the session, cron run and agent that all spans in them carry.

They are in OpenTelemetry's context, and so follow `await`, tasks, and the threads and executors
that are started inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import error_type
from agentpulse_instrumentation._engine.patching import shield
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status, StatusCode

from agentpulse._tracing.decorators import Description
from agentpulse._tracing.values import (
    attribute,
    data_attributes,
    json_text,
    label,
    result_text,
    text_of,
)

if TYPE_CHECKING:
    from agentpulse._tracing.recorder import Recorder

_R = TypeVar("_R")
_NO_RESULT = object()
MOST_METADATA = 64
"""Values of metadata that spans carry, at most. By OpenTelemetry's default a span has room for 128
attributes, and of too many the first are lost, which are those that describe it."""
_LEFT_OUT = f"{semconv.METADATA_PREFIX}…"
_KEY = context_api.create_key("agentpulse-step")
_SWITCH = shield("switch the context")
_SET = shield("set attributes of a span")
_END = shield("end a span")
_STAMP = shield("stamp a span with its session")
_OWN = shield("take a span over from other exporters")
_OF_RUN = (semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS, semconv.USER_ID)


class Stamp:
    """The attributes that every span gets: the user and metadata, of a session or outside any."""

    __slots__ = ("attributes",)

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def set_user(self, user: str | None) -> None:
        """From here on, spans carry this user."""
        if user is not None:
            self.attributes = {**self.attributes, semconv.USER_ID: str(user)}

    def set_metadata(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """From here on, spans carry these values too; they are returned as attributes.

        None is left out. So is a value that there is no room for, and `…` is in its place.
        """
        added = {
            semconv.METADATA_PREFIX + label(name): attribute(value)
            for name, value in values.items()
            if value is not None
        }
        room = max(MOST_METADATA - sum(map(_is_metadata, self.attributes)), 0)
        for name in [name for name in added if name not in self.attributes][room:]:
            del added[name]
            added[_LEFT_OUT] = "…"
        self.attributes = {**self.attributes, **added}
        return added


class Run(Stamp):
    """One run of a session or a cron job; every span under it carries its id and name."""

    __slots__ = ("id",)

    def __init__(self, description: Description, around: Stamp) -> None:
        super().__init__()
        self.id = description.new_id()
        # Of a run around it, all but the three that follow.
        self.attributes |= around.attributes
        self.attributes[semconv.SESSION_ID] = self.id
        self.attributes[semconv.SESSION_NAME] = description.name
        if isinstance(around, Run):
            earlier = around.attributes.get(semconv.SESSION_ANCESTORS, ())
            self.attributes[semconv.SESSION_ANCESTORS] = (around.id, *earlier)
        self.set_user(description.user)
        self.set_metadata(description.metadata or {})


@dataclass(slots=True, eq=False, weakref_slot=True)
class Step:
    """A span of ours under way, in a run and an agent: current while its code runs, ended once.

    Its code runs in one piece, or in many, as a generator's does: each is a `with step:`, and an
    exception that leaves it ends the span. The context is put back without tokens: a generator is
    often closed where another context is current, and OpenTelemetry's `detach` would log an error
    there.
    """

    recorder: Recorder
    description: Description
    outer: Step | None
    """The innermost one around it that was not over when it began."""
    run: Run | None
    agent: str | None
    span: trace.Span
    context: Context
    """The context that it begins in, then that of its code."""
    attributes: dict[str, Any]
    calls: AgentCalls | None
    """The agent for whose run the calls inside count."""
    started: float = field(default_factory=perf_counter)
    previous: Context | None = None
    """The context to put back; None while its code rests."""
    open_in: list[int] = field(default_factory=lambda: [os.getpid()])
    """The process that began it, and ends it; in a child that was forked meanwhile nothing happens.
    Empty when it is over."""

    def __post_init__(self) -> None:
        context = trace.set_span_in_context(self.span, self.context)
        self.context = context_api.set_value(_KEY, self, context)

    @property
    def still_open(self) -> Step | None:
        """This one, or the innermost around it that is not over.

        A callback or a timer begins inside the step that set it up, which may be over: a job that
        sets up its next run each time must not end up inside all its earlier runs.
        """
        step: Step | None = self
        while step is not None and not step.open_in:
            step = step.outer
        return step

    @property
    def is_current(self) -> bool:
        """Whether the current code runs inside it."""
        step = step_of(context_api.get_current())
        while step is not None and step is not self:
            step = step.outer
        return step is self

    def __enter__(self) -> Self:
        with _SWITCH:
            self.previous = context_api.get_current()
            context_api.attach(self.context)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        if error is None:
            self._suspend()
        else:
            self.end(error)

    def _suspend(self) -> None:
        if self.previous is None:
            return
        with _SWITCH:
            # Where somebody else closed a coroutine, the current context isn't ours to put back.
            if self.is_current:
                self.context = context_api.get_current()
                context_api.attach(self.previous)
        self.previous = None

    def set_attribute(self, name: str, value: object) -> None:
        """Sets an attribute of the span."""
        with _SET:
            self.span.set_attribute(name, attribute(value))

    def set_result(self, result: object) -> None:
        """Sets the result of a session."""
        if result is not None:
            with _SET:
                self.span.set_attribute(semconv.SESSION_RESULT, result_text(result))

    def set_summary(self, summary: str) -> None:
        """Sets the summary of a cron run."""
        self.set_attribute(semconv.CRON_SUMMARY, summary)

    def log(self, message: str, data: Mapping[str, object]) -> None:
        """Adds a line to a session's log."""
        with _SET:
            # Of too many attributes the first are lost.
            line = data_attributes(data)
            line[semconv.SESSION_LOG_MESSAGE] = attribute(message)
            self.span.add_event(semconv.SESSION_LOG, line)

    def set_metadata(self, values: Mapping[str, object]) -> None:
        """Adds metadata, to the session and to the spans under it from here on."""
        with _SET:
            if self.run is not None:
                self.span.set_attributes(self.run.set_metadata(values))

    def set_user(self, user: str) -> None:
        """Sets the user, of the session and of the spans under it from here on."""
        with _SET:
            if self.run is not None:
                self.run.set_user(user)
            self.span.set_attribute(semconv.USER_ID, str(user))

    def returned(self, result: _R) -> _R:
        """Records what its function returned, and ends the span."""
        self.end(result=result)
        return result

    def end(self, error: BaseException | None = None, result: object = _NO_RESULT) -> None:
        """Its code is over. Works once.

        A generator that was closed before its end did not fail.
        """
        self._suspend()
        try:
            is_of_this_process = self.open_in.pop() == os.getpid()
        except IndexError:
            return
        self.context = Context()  # the other one holds the step
        if self.description.is_session:
            self.recorder.under_way.discard(self)
        if not is_of_this_process:
            return
        with _END:
            try:
                if error is not None and not isinstance(error, GeneratorExit):
                    self._record_error(error)
                elif error is None and result is not _NO_RESULT:
                    self._record_result(result)
            finally:
                self._end_span()

    def _record_error(self, error: BaseException) -> None:
        self.attributes[semconv.ERROR_TYPE] = kind = error_type(error)
        self.span.set_attribute(semconv.ERROR_TYPE, kind)
        if isinstance(error, SystemExit):
            code = error.code
            status = code if isinstance(code, int) else int(code is not None)
            self.span.set_attribute(semconv.EXIT_CODE, status)
        text = text_of(error) if self.recorder.captures else None
        self.span.set_status(Status(StatusCode.ERROR, text))

    def _record_result(self, result: object) -> None:
        if not self.recorder.captured(self.description.capture_result):
            return
        name, text = semconv.RESULT, json_text(result)
        if self.description.kind == "tool":
            # By the conventions, the result of a tool is an object.
            name = semconv.TOOL_CALL_RESULT
            text = text if text.startswith("{") else f'{{"result": {text}}}'
        self.span.set_attribute(name, text)

    def _end_span(self) -> None:
        try:
            if getattr(self.span, "dropped_attributes", 0):
                # The first gave way to those that the program added, and they describe the span.
                stamp = self.run.attributes if self.run else {}
                self.span.set_attributes({**self.attributes, **stamp})
        finally:
            self.span.end()
        # Sessions, tasks and plain spans are in no metric.
        if semconv.OPERATION_NAME in self.attributes:
            seconds = perf_counter() - self.started
            self.recorder.metrics.record(self.span, self.attributes, seconds, self.calls)


def step_of(context: Context) -> Step | None:
    """The innermost step of a context."""
    return cast("Step | None", context.get(_KEY))


class SessionProcessor(SpanProcessor):
    """Gives spans `session.id`, `user.id`, the session's metadata and the agent around them.

    A span that has a `session.id` of its own is left as it is, without user, metadata or agent.
    """

    def __init__(self, outside: Stamp, own: Callable[[ReadableSpan], None]) -> None:
        """To be the first processor of a provider.

        Args:
            outside: The stamp of spans outside any session.
            own: Is called with each span that starts or ends, before any other processor.
        """
        self._outside = outside
        self._own = own

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Adds the attributes before any other processor sees the span's start."""
        with _STAMP:
            self._stamp(span, parent_context)
        with _OWN:
            self._own(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Lets no other exporter send a span that ours is going to send."""
        with _OWN:
            self._own(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  # as the SDK calls it
        """Returns True: otherwise OpenTelemetry 1.36 skips the remaining processors."""
        return True

    def _stamp(self, span: Span, parent_context: Context | None) -> None:
        own: Mapping[str, object] = span.attributes or {}
        if semconv.SESSION_ID in own:
            return
        context = context_api.get_current() if parent_context is None else parent_context
        step = step_of(context)
        stamp = self._outside.attributes
        if step is not None and step.run is not None:
            stamp = step.run.attributes
        elif step is None:
            # A context made of a span alone still has the span's session.
            stamp = _inherited(trace.get_current_span(context)) or stamp
        if step is not None and step.agent is not None and semconv.AGENT_NAME not in own:
            stamp = {**stamp, semconv.CALLED_IN_AGENT: step.agent}
        if stamp:
            span.set_attributes(stamp)


def _inherited(parent: trace.Span) -> dict[str, Any]:
    attributes: Mapping[str, Any] = getattr(parent, "attributes", None) or {}
    if semconv.SESSION_ID not in attributes:
        return {}
    names = [name for name in attributes if name in _OF_RUN or _is_metadata(name)]
    return {name: attributes[name] for name in names}


def _is_metadata(name: str) -> bool:
    return name.startswith(semconv.METADATA_PREFIX)
