"""Copies of spans: the spans that are sent differ from those that other processors get."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Status
from opentelemetry.util.types import Attributes

from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.json import CUT, clean
from agentpulse_exporter._wire.media import without_bodies

_COPIED = (
    *("context", "parent", "resource", "attributes", "events", "links", "kind", "status"),
    *("start_time", "end_time", "instrumentation_scope"),
)


class SpanCopy(ReadableSpan):
    """A copy of a span with a few fields changed."""

    def __init__(self, span: ReadableSpan, **changed: Any) -> None:
        """`changed` are arguments of `ReadableSpan`."""
        copied = {name: getattr(span, name) for name in _COPIED if name not in changed}
        # Half a character, as models are called by mistake, would cost others the whole batch.
        name = span.name.encode("utf-8", "replace").decode("utf-8")
        super().__init__(name, **copied, **changed)
        self._original = span

    # The original's containers count the attributes, events and links that the SDK's limits cut.
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


class ForwardingExporter(SpanExporter):
    """Passes spans on to another exporter, changed on copies.

    Args:
        inner: The exporter that gets them, whose results and timeouts are those of this one.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self._inner.shutdown()


def without_bodies_of(span: ReadableSpan) -> ReadableSpan:
    """The span without the bodies of files and images in its texts; itself where it has none."""
    changed: dict[str, Any] = {}
    attributes = _shown(span.attributes)
    if attributes is not None:
        changed["attributes"] = attributes
    events = [(event, _shown(event.attributes)) for event in span.events]
    if any(shown is not None for _, shown in events):
        changed["events"] = [
            event if shown is None else Event(event.name, shown, event.timestamp)
            for event, shown in events
        ]
    description = span.status.description
    shown = None if description is None else str(_without_bodies(description))
    if shown != description:
        changed["status"] = Status(span.status.status_code, shown)
    return SpanCopy(span, **changed) if changed else span


def _shown(attributes: Mapping[str, object] | None) -> Attributes:
    """The attributes without bodies; None where there are none in them."""
    shown = {name: _without_bodies(value) for name, value in (attributes or {}).items()}
    return None if shown == (attributes or {}) else cast("Attributes", shown)


def _without_bodies(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        return value
    # A text that can't be searched is not sent.
    shown = shielded("look for files in a text", partial(without_bodies, value), CUT)
    if isinstance(shown, list):
        return tuple(_sendable(item) for item in cast("list[object]", shown))
    return _sendable(shown)


def _sendable(value: object) -> object:
    # Half a character, as models write by mistake, would cost other exporters the whole attribute.
    if isinstance(value, str) and not value.isascii():
        return clean(value, len(value))
    return value
