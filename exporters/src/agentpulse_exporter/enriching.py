"""Cost for any exporter: the spans that pass through get `agentpulse.cost.*` attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes
from agentpulse_exporter._ledger.ledger import Ledger
from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import cost_of
from agentpulse_exporter._pricing.overrides import own_prices
from agentpulse_exporter._values import shielded
from agentpulse_exporter._wire.copies import ForwardingExporter, SpanCopy
from agentpulse_exporter.settings import is_on, resolve


class CostEnrichingExporter(ForwardingExporter):
    """Passes spans on to another exporter, each model call with its cost.

    Other exporters get the same span objects as before: the cost is on copies. Spans are
    passed unchanged if they already have a cost, aren't model calls, repeat another span's call, or
    have no known price. All spans are passed unchanged if it was switched off when it was made
    (`enabled=False`, AGENTPULSE_ENABLED or OTEL_SDK_DISABLED).

    Args:
        inner: The exporter that gets the spans. Its results and timeouts are returned unchanged.
        prices: The user's own prices, as a mapping or the path of a JSON file; by default those of
            the running `AgentPulseSpanExporter`, else `AGENTPULSE_PRICES`.
        enabled: Whether it adds anything; by default `AGENTPULSE_ENABLED`, else it does.

    Raises:
        ConfigurationError: An argument can't be used (a ValueError). If a variable can't be used,
            no cost is added, and this is logged once.
    """

    def __init__(
        self,
        inner: SpanExporter,
        *,
        prices: Mapping[str, object] | str | Path | None = None,
        enabled: bool | None = None,
    ) -> None:
        super().__init__(inner)
        given = {"prices": prices, "enabled": enabled}
        self._is_on = is_on(resolve(given, only=tuple(given)))
        self._overrides = PriceOverrides.load(prices)
        self._ledger = Ledger()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports the spans, with cost where it is known."""
        if not self._is_on:
            return self.inner.export(spans)
        shielded("find calls that are recorded twice", lambda: self._ledger.enter(spans), None)
        return self.inner.export(
            [shielded("price a span", partial(self._priced, span), span) for span in spans]
        )

    def _priced(self, span: ReadableSpan) -> ReadableSpan:
        attributes = current_attributes(span)
        if semconv.COST_TOTAL in attributes or self._ledger.is_repeat(span):
            return span
        at = None if span.start_time is None else span.start_time / 1e9
        cost = cost_of(attributes, at, self._overrides or own_prices())
        if cost is None:
            return span
        return SpanCopy(span, attributes={**(span.attributes or {}), **cost.attributes()})
