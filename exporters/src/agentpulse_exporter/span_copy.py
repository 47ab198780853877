"""Copies of spans, for what is sent differs from what other processors and exporters get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status
from opentelemetry.util.types import Attributes


class SpanCopy(ReadableSpan):
    """A copy of a span with other attributes, and another status if one is given."""

    def __init__(
        self, span: ReadableSpan, attributes: Mapping[str, object], status: Status | None = None
    ) -> None:
        super().__init__(
            span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=cast("Attributes", attributes),
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=status or span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._original = span

    # The counts of what the SDK's limits cut are kept by the containers of the original.
    @property
    def dropped_attributes(self) -> int:
        """How many attributes the SDK's limits cut."""
        return self._original.dropped_attributes

    @property
    def dropped_events(self) -> int:
        """How many events the SDK's limits cut."""
        return self._original.dropped_events

    @property
    def dropped_links(self) -> int:
        """How many links the SDK's limits cut."""
        return self._original.dropped_links
