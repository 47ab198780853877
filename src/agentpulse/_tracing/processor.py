"""Stamps every span with the session around it, when it starts, before other processors see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_instrumentation._shield import shield
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from agentpulse._tracing.scope import scope_of

_STAMP = shield("stamp a span with its session")
_CLAIM = shield("claim a span")
_INHERITED = (semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS, semconv.USER_ID)


class SessionProcessor(SpanProcessor):
    """Gives spans `session.id`, `user.id`, the session's metadata and the agent around them.

    A span that has a `session.id` of its own keeps it.
    """

    def __init__(
        self, defaults: Callable[[], Mapping[str, Any]], claim: Callable[[ReadableSpan], None]
    ) -> None:
        """For the first place among the processors of a provider.

        Args:
            defaults: What spans outside any session are stamped with.
            claim: Is told of each span that starts or ends, before any other processor.
        """
        self._defaults = defaults
        self._claim = claim

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Adds the attributes before any other processor sees the span's start."""
        with _STAMP:
            self._stamp(
                span, context_api.get_current() if parent_context is None else parent_context
            )
        with _CLAIM:
            self._claim(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Lets no other exporter tell of a span that ours is going to tell of."""
        with _CLAIM:
            self._claim(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  # as the SDK calls it
        """Nothing waits here. Without this yes, OpenTelemetry 1.36 would flush nobody else."""
        return True

    def _stamp(self, span: Span, context: Context) -> None:
        own: Mapping[str, object] = span.attributes or {}
        if semconv.SESSION_ID in own:
            return
        scope = scope_of(context)
        stamp = self._defaults()
        if scope is not None and scope.run is not None:
            stamp = scope.run.stamp
        elif scope is None:
            # Whoever keeps only a span, and makes a context of it, still has its session.
            stamp = _stamp_of(trace.get_current_span(context)) or stamp
        if scope is not None and scope.agent is not None and semconv.AGENT_NAME not in own:
            stamp = {**stamp, semconv.CALLED_IN_AGENT: scope.agent}
        if stamp:
            span.set_attributes(stamp)


def _stamp_of(parent: trace.Span) -> dict[str, Any]:
    attributes: Mapping[str, Any] = getattr(parent, "attributes", None) or {}
    if semconv.SESSION_ID not in attributes:
        return {}
    return {
        name: value
        for name, value in attributes.items()
        if name in _INHERITED or name.startswith(semconv.METADATA_PREFIX)
    }
