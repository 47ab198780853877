"""Cost for any exporter: the spans that pass through get `agentpulse.cost.*` attributes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util.types import Attributes

from agentpulse_exporter import names
from agentpulse_exporter.cost import cost_of, is_model_call
from agentpulse_exporter.dialects import current_attributes
from agentpulse_exporter.ledger import Ledger
from agentpulse_exporter.pricing import PriceOverrides

_logger = logging.getLogger("agentpulse.exporter")


class CostEnrichingExporter(SpanExporter):
    """Passes spans on to another exporter, each call of a model with what it cost.

    Other exporters get the same span objects as before: the cost is on copies. A span that already
    has a cost, one that is no call of a model, one that tells of a call that another span told of,
    and one whose model has no known price pass as they are.

    Args:
        inner: The exporter that gets the spans, whose results and timeouts are those of this one.
        prices: The user's own prices, as a mapping or the path of a JSON file.

    Raises:
        ValueError: `prices` can't be read.
    """

    def __init__(
        self,
        inner: SpanExporter,
        *,
        prices: Mapping[str, object] | str | Path | None = None,
    ) -> None:
        self._inner = inner
        self._overrides = PriceOverrides.load(prices)
        self._ledger = Ledger()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports the spans, with cost where it is known."""
        try:
            told = ((span, current_attributes(span)) for span in spans)
            self._ledger.enter((span, said) for span, said in told if is_model_call(said))
        except Exception as error:  # noqa: BLE001  # spans that can't be read must still arrive
            _logger.debug("Spans could not be read: %s", type(error).__name__)
        return self._inner.export([self._priced(span) for span in spans])

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self._inner.shutdown()

    def _priced(self, span: ReadableSpan) -> ReadableSpan:
        try:
            attributes = current_attributes(span)
            if names.COST_TOTAL in attributes or self._ledger.is_repeat(span):
                return span
            at = None if span.start_time is None else span.start_time / 1e9
            cost = cost_of(attributes, at, self._overrides)
            return span if cost is None else PricedSpan(span, cost.attributes())
        except Exception as error:  # noqa: BLE001  # a span that can't be priced must still arrive
            _logger.debug("A span could not be priced: %s", type(error).__name__)
            return span


class PricedSpan(ReadableSpan):
    """A copy of a span with a few attributes more."""

    def __init__(self, span: ReadableSpan, more: Mapping[str, object]) -> None:
        super().__init__(
            span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=cast("Attributes", {**(span.attributes or {}), **more}),
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=span.status,
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
