"""The session, cron run and agent around the current code, and the spans stamped with them.

They are in OpenTelemetry's context, and so follow `await`, tasks, and the threads and executors
that are started inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_instrumentation._shield import shield
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from agentpulse._tracing.description import Description
from agentpulse._tracing.values import attribute, label

MOST_METADATA = 64
"""Values of metadata that spans carry, at most. By OpenTelemetry's default a span has room for 128
attributes, and of too many the first are lost, which are those that describe it."""
_LEFT_OUT = f"{semconv.METADATA_PREFIX}…"
_KEY = context_api.create_key("agentpulse-scope")
_STAMP = shield("stamp a span with its session")
_OWN = shield("take a span over from other exporters")
_INHERITED = (semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS, semconv.USER_ID)


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
        added: dict[str, Any] = {}
        room = MOST_METADATA - sum(map(_is_metadata, self.attributes))
        for given, value in values.items():
            if value is None:
                continue
            name = semconv.METADATA_PREFIX + label(given)
            if name not in self.attributes and name not in added:
                if room <= 0:
                    added[_LEFT_OUT] = "…"
                    continue
                room -= 1
            added[name] = attribute(value)
        self.attributes = {**self.attributes, **added}
        return added


class Run(Stamp):
    """One run of a session or a cron job; every span under it carries its id and name."""

    __slots__ = ("ancestors", "id")

    def __init__(self, description: Description, around: Run | None, outside: Stamp) -> None:
        super().__init__()
        self.id = description.new_id()
        self.ancestors: tuple[str, ...] = () if around is None else (around.id, *around.ancestors)
        self.attributes |= {
            name: value
            for name, value in (around or outside).attributes.items()
            if name == semconv.USER_ID or _is_metadata(name)
        }
        self.attributes[semconv.SESSION_ID] = self.id
        self.attributes[semconv.SESSION_NAME] = description.name
        if self.ancestors:
            self.attributes[semconv.SESSION_ANCESTORS] = self.ancestors
        self.set_user(description.user)
        self.set_metadata(description.metadata or {})


class Scope:
    """A span of ours that is current, with the run and the agent that it is a part of."""

    __slots__ = ("__weakref__", "agent", "is_over", "outer", "run")

    def __init__(self, outer: Scope | None, run: Run | None, agent: str | None) -> None:
        self.outer = outer
        self.run = run
        self.agent = agent
        self.is_over = False

    @property
    def still_open(self) -> Scope | None:
        """This one, or the innermost around it that is not over.

        A callback or a timer begins inside the scope that set it up, which may be over: a job that
        sets up its next run each time must not end up inside all its earlier runs.
        """
        scope: Scope | None = self
        while scope is not None and scope.is_over:
            scope = scope.outer
        return scope

    def contains(self, inner: Scope | None) -> bool:
        """Whether `inner` is this one, or inside it."""
        while inner is not None and inner is not self:
            inner = inner.outer
        return inner is self


def scope_of(context: Context) -> Scope | None:
    """The innermost scope of a context."""
    found = context.get(_KEY)
    return found if isinstance(found, Scope) else None


def within(scope: Scope, context: Context) -> Context:
    """The context with this as its innermost scope."""
    return context_api.set_value(_KEY, scope, context)


class SessionProcessor(SpanProcessor):
    """Gives spans `session.id`, `user.id`, the session's metadata and the agent around them.

    A span that has a `session.id` of its own keeps it.
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
            self._stamp(
                span, context_api.get_current() if parent_context is None else parent_context
            )
        with _OWN:
            self._own(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Lets no other exporter send a span that ours is going to send."""
        with _OWN:
            self._own(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  # as the SDK calls it
        """Nothing waits here. Without this yes, OpenTelemetry 1.36 would flush nobody else."""
        return True

    def _stamp(self, span: Span, context: Context) -> None:
        own: Mapping[str, object] = span.attributes or {}
        if semconv.SESSION_ID in own:
            return
        scope = scope_of(context)
        stamp = self._outside.attributes
        if scope is not None and scope.run is not None:
            stamp = scope.run.attributes
        elif scope is None:
            # A context made of a span alone still has the span's session.
            stamp = _inherited(trace.get_current_span(context)) or stamp
        if scope is not None and scope.agent is not None and semconv.AGENT_NAME not in own:
            stamp = {**stamp, semconv.CALLED_IN_AGENT: scope.agent}
        if stamp:
            span.set_attributes(stamp)


def _inherited(parent: trace.Span) -> dict[str, Any]:
    attributes: Mapping[str, Any] = getattr(parent, "attributes", None) or {}
    if semconv.SESSION_ID not in attributes:
        return {}
    return {
        name: value
        for name, value in attributes.items()
        if name in _INHERITED or _is_metadata(name)
    }


def _is_metadata(name: str) -> bool:
    return name.startswith(semconv.METADATA_PREFIX)
