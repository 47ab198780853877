"""The GenAI metrics of the conventions, for programs that have a meter provider.

Each is what an ended span says, so spans that a sampler drops are in none of them. The time per
output chunk is left out: it would take a look at the clock for every chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram, MeterProvider
from opentelemetry.trace import Span

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation._version import VERSION
from agentpulse_instrumentation.shield import shield

_RECORD = shield("record metrics")
_NANOSECONDS = 1_000_000_000
_INFERENCE = frozenset({"chat", "text_completion", "generate_content"})
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SECONDS_OF_AGENTS = (
    *(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8),
    *(25.6, 51.2, 102.4, 204.8, 409.6),
)
_SECONDS_OF_WORKFLOWS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOKENS = tuple(4**power for power in range(14))
_OF_CALLS = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.OPENAI_RESPONSE_SERVICE_TIER,
    semconv.OPENAI_SYSTEM_FINGERPRINT,
)
_RUNS: Mapping[str, tuple[str, tuple[float, ...], tuple[str, ...]]] = {
    "invoke_agent": ("gen_ai.invoke_agent.duration", _SECONDS_OF_AGENTS, (semconv.AGENT_NAME,)),
    "invoke_workflow": (
        "gen_ai.invoke_workflow.duration",
        _SECONDS_OF_WORKFLOWS,
        (semconv.WORKFLOW_NAME,),
    ),
    "execute_tool": (
        "gen_ai.execute_tool.duration",
        _SECONDS,
        (semconv.TOOL_NAME, semconv.TOOL_TYPE),
    ),
}
"""By operation of what isn't a client's: its metric, its buckets, and the attributes of it."""
_USAGE = {
    f"gen_ai.client.inference.usage.{kind}": f"gen_ai.usage.{kind}"
    for kind in (
        "input_tokens",
        "output_tokens",
        "cache_read.input_tokens",
        "cache_write.input_tokens",
        "reasoning.output_tokens",
    )
}
_SIZES = {
    f"gen_ai.client.inference.operation.{kind}": f"gen_ai.usage.{kind}"
    for kind in ("input_tokens", "output_tokens")
}


class Metrics:
    """Records what spans say, on the meter provider given, or on the global one if there is one."""

    def __init__(self, scope: str, provider: MeterProvider | None) -> None:
        """`scope` is the instrumentation's name."""
        self._scope = scope
        self._provider = provider
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter] = {}

    def record(self, span: Span) -> None:
        """Records a span of ours that has ended. Never raises."""
        if self._provider is None and not _has_provider():
            return
        attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
        operation = attributes.get(semconv.OPERATION_NAME)
        # An answer of a cache is no call.
        if operation is None or semconv.ANSWERED_BY in attributes:
            return
        with _RECORD:
            ended: Any = span
            seconds = (ended.end_time - ended.start_time) / _NANOSECONDS
            if operation in _RUNS:
                name, buckets, wanted = _RUNS[operation]
                of_run = _chosen(attributes, (*wanted, semconv.ERROR_TYPE))
                self._histogram(name, buckets).record(seconds, of_run)
            elif operation in _INFERENCE:
                self._inference(seconds, attributes)
            else:
                of_call = _chosen(attributes, (*_OF_CALLS, semconv.ERROR_TYPE))
                self._histogram("gen_ai.client.operation.duration", _SECONDS).record(
                    seconds, of_call
                )

    def _inference(self, seconds: float, attributes: Mapping[str, Any]) -> None:
        of_call = _chosen(attributes, _OF_CALLS)
        failed = _chosen(attributes, (semconv.ERROR_TYPE,))
        name = "gen_ai.client.inference"
        self._histogram(f"{name}.duration", _SECONDS).record(seconds, {**of_call, **failed})
        first = attributes.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        if first is not None:
            self._histogram(f"{name}.time_to_first_chunk", _SECONDS).record(first, of_call)
        if attributes.get(semconv.USAGE_ESTIMATED) is True:
            return
        for metric, attribute in _SIZES.items():
            if (tokens := attributes.get(attribute)) is not None:
                self._histogram(metric, _TOKENS, "{token}").record(tokens, of_call)
        for metric, attribute in _USAGE.items():
            if tokens := attributes.get(attribute):
                self._counter(metric).add(tokens, {**of_call, _MODALITY: "unknown"})

    @cached_property
    def _meter(self) -> metrics.Meter:
        return metrics.get_meter(
            self._scope, VERSION, self._provider, schema_url=semconv.SCHEMA_URL
        )

    def _histogram(self, name: str, buckets: tuple[float, ...], unit: str = "s") -> Histogram:
        found = self._histograms.get(name)
        if found is None:
            found = self._histograms[name] = self._meter.create_histogram(
                name, unit, explicit_bucket_boundaries_advisory=buckets
            )
        return found

    def _counter(self, name: str) -> Counter:
        found = self._counters.get(name)
        if found is None:
            found = self._counters[name] = self._meter.create_counter(name, "{token}")
        return found


_MODALITY = "gen_ai.token.modality"


def _has_provider() -> bool:
    # Where none was set, the API hands out a stand-in, whose class has no public name.
    return type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"


def _chosen(attributes: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: attributes[name] for name in names if name in attributes}
