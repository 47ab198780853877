"""Records the GenAI metrics, for programs that have a meter provider.

Samplers thin out traces and not figures: a call is measured whether its span is recorded or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram, MeterProvider
from opentelemetry.trace import Span

from agentpulse_instrumentation import measures, semconv
from agentpulse_instrumentation._version import VERSION
from agentpulse_instrumentation.agents import AgentCalls
from agentpulse_instrumentation.measures import Measure
from agentpulse_instrumentation.shield import shield

_RECORD = shield("record metrics")
_NANOSECONDS = 1_000_000_000


class Metrics:
    """Measures calls, on the meter provider given, or on the global one if there is one."""

    def __init__(self, scope: str, provider: MeterProvider | None) -> None:
        """`scope` is the instrumentation's name."""
        self._scope = scope
        self._provider = provider
        self._instruments: dict[Measure, Any] = {}

    @property
    def is_on(self) -> bool:
        """Whether there is a provider now."""
        # Where none was set, the API hands out a stand-in, whose class has no public name.
        return (
            self._provider is not None
            or type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"
        )

    def record(
        self,
        span: Span,
        attributes: Mapping[str, Any],
        seconds: float,
        calls: AgentCalls | None = None,
    ) -> None:
        """Measures what is over. Never raises.

        Args:
            span: Its span, which has ended; if it was recorded, it tells how long it took.
            attributes: What the span was given.
            seconds: How long it took by our own clock.
            calls: Those of the agent that has run.
        """
        # An answer of a cache is no call.
        if not self.is_on or semconv.ANSWERED_BY in attributes:
            return
        operation = attributes.get(semconv.OPERATION_NAME)
        if operation is None:
            return
        with _RECORD:
            seconds = _length(span, seconds)
            if semconv.CALLED_IN_AGENT in attributes:
                # On spans, the name of an agent means that they are its.
                around = attributes[semconv.CALLED_IN_AGENT]
                attributes = {semconv.AGENT_NAME: around, **attributes}
            if operation in measures.INFERENCE:
                self._inference(seconds, attributes)
            else:
                measure = measures.RUNS.get(operation, measures.OTHER_DURATION)
                self._record(measure, seconds, attributes)
            if calls is not None:
                inference, tools = calls.totals()
                self._record(measures.INFERENCE_CALLS, inference, attributes)
                self._record(measures.TOOL_CALLS, tools, attributes)

    def record_chunks(self, seconds: Iterable[float], attributes: Mapping[str, Any]) -> None:
        """Measures chunks of a stream after its first: how long after the one before each came."""
        with _RECORD:
            for each in seconds:
                self._record(measures.LATER_CHUNKS, each, attributes)

    def _inference(self, seconds: float, attributes: Mapping[str, Any]) -> None:
        self._record(measures.INFERENCE_DURATION, seconds, attributes)
        first = attributes.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        if first is not None:
            self._record(measures.FIRST_CHUNK, first, attributes)
        if attributes.get(semconv.USAGE_ESTIMATED) is True:
            return
        for name, measure in measures.SIZES.items():
            if (tokens := attributes.get(name)) is not None:
                self._record(measure, tokens, attributes)
        for name, measure in measures.USAGE.items():
            for modality, tokens in _by_modality(name, attributes):
                told = {**_chosen(measure, attributes), semconv.MODALITY: modality}
                self._counter(measure).add(tokens, told)

    def _record(self, measure: Measure, value: float, attributes: Mapping[str, Any]) -> None:
        self._histogram(measure).record(value, _chosen(measure, attributes))

    @cached_property
    def _meter(self) -> metrics.Meter:
        return metrics.get_meter(
            self._scope, VERSION, self._provider, schema_url=semconv.SCHEMA_URL
        )

    def _histogram(self, measure: Measure) -> Histogram:
        found = self._instruments.get(measure)
        if found is None:
            found = self._instruments[measure] = self._meter.create_histogram(
                measure.name, measure.unit, explicit_bucket_boundaries_advisory=measure.buckets
            )
        return found

    def _counter(self, measure: Measure) -> Counter:
        found = self._instruments.get(measure)
        if found is None:
            found = self._instruments[measure] = self._meter.create_counter(
                measure.name, measure.unit
            )
        return found


def _length(span: Span, seconds: float) -> float:
    started, ended = getattr(span, "start_time", None), getattr(span, "end_time", None)
    return seconds if started is None or ended is None else (ended - started) / _NANOSECONDS


def _by_modality(name: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The parts of a figure, and what no part tells of."""
    rest = attributes.get(name) or 0
    for modality, part in measures.MODALITIES.get(name, {}).items():
        tokens = min(attributes.get(part) or 0, rest)
        if tokens:
            rest -= tokens
            yield modality, tokens
    if rest:
        yield "unknown", rest


def _chosen(measure: Measure, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in measure.attributes if name in attributes}
