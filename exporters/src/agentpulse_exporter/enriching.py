"""Cost for any exporter: the spans that pass through get `agentpulse.cost.*` attributes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes
from agentpulse_exporter._ledger.ledger import Ledger
from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import cost_of, is_model_call
from agentpulse_exporter._wire.span_copy import SpanCopy
from agentpulse_exporter.settings import is_enabled

_logger = logging.getLogger("agentpulse.exporter")


class CostEnrichingExporter(SpanExporter):
    """Passes spans on to another exporter, each call of a model with what it cost.

    Other exporters get the same span objects as before: the cost is on copies. A span that already
    has a cost, one that is no call of a model, one that tells of a call that another span told of,
    and one whose model has no known price pass as they are. All do so where it was switched off
    when it was made, by `enabled=False`, AGENTPULSE_ENABLED or OTEL_SDK_DISABLED.

    Args:
        inner: The exporter that gets the spans, whose results and timeouts are those of this one.
        prices: The user's own prices, as a mapping or the path of a JSON file.
        enabled: Whether it adds anything; by default as `AGENTPULSE_ENABLED` says, else it does.

    Raises:
        ValueError: `prices` can't be read. Where `AGENTPULSE_ENABLED` can't be, it adds nothing,
            which is logged once.
    """

    def __init__(
        self,
        inner: SpanExporter,
        *,
        prices: Mapping[str, object] | str | Path | None = None,
        enabled: bool | None = None,
    ) -> None:
        self._inner = inner
        self._is_on = is_enabled(enabled)
        self._overrides = PriceOverrides.load(prices)
        self._ledger = Ledger()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports the spans, with cost where it is known."""
        if not self._is_on:
            return self._inner.export(spans)
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
            if semconv.COST_TOTAL in attributes or self._ledger.is_repeat(span):
                return span
            at = None if span.start_time is None else span.start_time / 1e9
            cost = cost_of(attributes, at, self._overrides)
            if cost is None:
                return span
            return SpanCopy(span, {**(span.attributes or {}), **cost.attributes()})
        except Exception as error:  # noqa: BLE001  # a span that can't be priced must still arrive
            _logger.debug("A span could not be priced: %s", type(error).__name__)
            return span
