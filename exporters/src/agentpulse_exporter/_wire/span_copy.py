"""Copies of spans, for what is sent differs from what other processors and exporters get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status
from opentelemetry.util.types import Attributes, AttributeValue

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.limits import CUT
from agentpulse_exporter._wire.media import without_bodies
from agentpulse_exporter._wire.privacy import without_content


def without_bodies_of(span: ReadableSpan) -> ReadableSpan:
    """The span without the bodies of files and images in its texts; itself where it has none."""
    attributes = _shown(span.attributes)
    events = [_shown(event.attributes) for event in span.events]
    description = span.status.description
    told = None if description is None else str(_without(description))
    if attributes is None and told == description and not any(events):
        return span
    status = span.status if told == description else Status(span.status.status_code, told)
    copy = SpanCopy(span, attributes or span.attributes or {}, status)
    return copy.with_attributes_of_events(events)


def _shown(attributes: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """The attributes without bodies; None where there are none in them."""
    told = {name: _without(value) for name, value in (attributes or {}).items()}
    return None if told == (attributes or {}) else told


def _without(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        return value
    # What can't be looked through must not leave.
    shown = shielded("look for files in a text", partial(without_bodies, value), CUT)
    return tuple(cast("list[object]", shown)) if isinstance(shown, list) else shown


class SpanCopy(ReadableSpan):
    """A copy of a span that is changed in one thing or the other."""

    def __init__(
        self,
        span: ReadableSpan,
        attributes: Mapping[str, object],
        status: Status | None = None,
        parent: SpanContext | None = None,
    ) -> None:
        """With these attributes, and this status and parent where they are given."""
        super().__init__(
            # Half a character, as models are called by mistake, would cost others the whole batch.
            span.name.encode("utf-8", "replace").decode("utf-8"),
            context=span.context,
            parent=span.parent if parent is None else parent,
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

    @classmethod
    def inside(cls, span: ReadableSpan, parent: SpanContext | None) -> SpanCopy:
        """A copy with another parent, or with none."""
        copy = cls(span, span.attributes or {}, parent=parent)
        if parent is None:
            copy._parent = None
        return copy

    def with_own_events(self) -> SpanCopy:
        """The same with the lines of a session's log alone: what else there is may say anything."""
        self._events = [event for event in self._events if event.name == semconv.SESSION_LOG]
        return self

    def with_attributes_of_events(
        self, attributes: Sequence[Mapping[str, object] | None]
    ) -> SpanCopy:
        """The same with these attributes of its events, one for each, None for those they have."""
        self._events = [
            event if each is None else Event(event.name, cast("Attributes", each), event.timestamp)
            for event, each in zip(self._events, attributes, strict=True)
        ]
        return self

    def without_others_content(self) -> SpanCopy:
        """The same with links that only name spans, and a resource that holds no content."""
        self._links = tuple(Link(link.context) for link in self._links)
        resource = self._resource
        known = without_content(resource.attributes)
        if len(known) != len(resource.attributes):
            self._resource = Resource(
                cast("Mapping[str, AttributeValue]", known), resource.schema_url
            )
        return self

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
