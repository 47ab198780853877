"""Records the GenAI metrics of the conventions, for programs that have a meter provider.

Samplers thin out traces and not figures: a call is measured whether its span is recorded or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import INFERENCE
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation._version import VERSION


class Measure(NamedTuple):
    """One metric: a histogram, or (without buckets) a counter.

    Attributes:
        attributes: Those of the span that it has too.
    """

    name: str
    unit: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] | None = None


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SECONDS_OF_AGENTS = tuple(round(0.1 * 2**power, 1) for power in range(13))
_SECONDS_OF_WORKFLOWS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOKENS = tuple(4**power for power in range(14))
_CALLS = tuple(2**power for power in range(8))
_OF_CHUNKS = (
    *(semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.SERVER_ADDRESS, semconv.SERVER_PORT),
    *(semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL),
)
_OF_OPENAI = (semconv.OPENAI_RESPONSE_SERVICE_TIER, semconv.OPENAI_SYSTEM_FINGERPRINT)
_OF_TOKENS = (*_OF_CHUNKS, *_OF_OPENAI)
_OF_CALLS = (*_OF_TOKENS, semconv.ERROR_TYPE)
_OF_AGENTS = (semconv.AGENT_NAME, semconv.ERROR_TYPE)
_OF_TOOLS = (semconv.TOOL_NAME, semconv.TOOL_TYPE, *_OF_AGENTS)
_OF_WORKFLOWS = (semconv.WORKFLOW_NAME, semconv.ERROR_TYPE)
_INFERENCE = "gen_ai.client.inference"

DURATIONS = {
    **dict.fromkeys(INFERENCE, Measure(f"{_INFERENCE}.duration", "s", _OF_CALLS, _SECONDS)),
    "invoke_agent": Measure("gen_ai.invoke_agent.duration", "s", _OF_AGENTS, _SECONDS_OF_AGENTS),
    "invoke_workflow": Measure(
        "gen_ai.invoke_workflow.duration", "s", _OF_WORKFLOWS, _SECONDS_OF_WORKFLOWS
    ),
    "execute_tool": Measure("gen_ai.execute_tool.duration", "s", _OF_TOOLS, _SECONDS),
}
"""By operation."""
OTHER_DURATION = Measure("gen_ai.client.operation.duration", "s", _OF_CALLS, _SECONDS)
LATER_CHUNKS = Measure(f"{_INFERENCE}.time_per_output_chunk", "s", _OF_CHUNKS, _SECONDS)
CALLS = {
    kind: Measure(f"gen_ai.invoke_agent.{kind}s", f"{{{kind}}}", (semconv.AGENT_NAME,), _CALLS)
    for kind in ("inference_call", "tool_call")
}
"""The calls of one run of an agent."""
FIGURES = {
    semconv.RESPONSE_TIME_TO_FIRST_CHUNK: Measure(
        f"{_INFERENCE}.time_to_first_chunk", "s", _OF_CHUNKS, _SECONDS
    ),
    **{
        f"gen_ai.usage.{kind}": Measure(
            f"{_INFERENCE}.operation.{kind}", "{token}", _OF_TOKENS, _TOKENS
        )
        for kind in ("input_tokens", "output_tokens")
    },
}
"""The figures of one inference, by the attribute that each is."""
USAGE = {
    kind: Measure(f"{_INFERENCE}.usage.{kind}", "{token}", _OF_TOKENS)
    for kind in (
        *("input_tokens", "output_tokens", "reasoning.output_tokens"),
        *("cache_read.input_tokens", "cache_write.input_tokens"),
    )
}
"""The tokens of all inferences, by their kind, which is the end of an attribute's name."""

_RECORD = shield("record metrics")


@dataclass(slots=True, eq=False)
class Metrics:
    """Measures calls, on the meter provider given, or on the global one if there is one.

    `scope` is the instrumentation's name.
    """

    scope: str
    provider: MeterProvider | None
    _instruments: dict[str, Any] = field(default_factory=dict[str, Any], init=False)

    @property
    def is_on(self) -> bool:
        """Whether there is a provider now."""
        # Where none was set, the API hands out a stand-in, whose class has no public name.
        return (
            self.provider is not None
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
            span: Its span, which has ended; if it was recorded, its own length counts.
            attributes: What the span was given.
            seconds: How long it took by our own clock.
            calls: Those of the agent that has run.
        """
        operation = attributes.get(semconv.OPERATION_NAME)
        # An answer of a cache is no call.
        if operation is None or semconv.ANSWERED_BY in attributes or not self.is_on:
            return
        with _RECORD:
            if semconv.CALLED_IN_AGENT in attributes:
                # On spans, the name of an agent means that they are its.
                around = attributes[semconv.CALLED_IN_AGENT]
                attributes = {semconv.AGENT_NAME: around, **attributes}
            measure = DURATIONS.get(operation, OTHER_DURATION)
            self._record(measure, _length(span, seconds), attributes)
            if operation in INFERENCE:
                self._inference(attributes)
            if calls is not None:
                for each, total in zip(CALLS.values(), calls.totals(), strict=True):
                    self._record(each, total, attributes)

    def record_chunks(self, arrivals: Sequence[float], attributes: Mapping[str, Any]) -> None:
        """Measures how long each chunk of a stream took after the one before, in seconds."""
        with _RECORD:
            for earlier, later in pairwise(arrivals):
                self._record(LATER_CHUNKS, later - earlier, attributes)

    def _inference(self, attributes: Mapping[str, Any]) -> None:
        if attributes.get(semconv.USAGE_ESTIMATED) is True:
            attributes = {name: each for name, each in attributes.items() if "_tokens" not in name}
        for name, measure in FIGURES.items():
            if (figure := attributes.get(name)) is not None:
                self._record(measure, figure, attributes)
        for kind, measure in USAGE.items():
            for modality, tokens in _by_modality(kind, attributes):
                self._record(measure, tokens, attributes, {semconv.MODALITY: modality})

    def _record(
        self,
        measure: Measure,
        value: float,
        attributes: Mapping[str, Any],
        more: Mapping[str, str] = {},
    ) -> None:
        chosen = {name: attributes[name] for name in measure.attributes if name in attributes}
        record = self._instruments.get(measure.name)
        if record is None:
            record = self._instruments[measure.name] = self._instrument(measure)
        record(value, {**chosen, **more})

    def _instrument(self, measure: Measure) -> Any:
        url = semconv.SCHEMA_URL
        meter = metrics.get_meter(self.scope, VERSION, self.provider, schema_url=url)
        if measure.buckets is None:
            return meter.create_counter(measure.name, measure.unit).add
        return meter.create_histogram(
            measure.name, measure.unit, explicit_bucket_boundaries_advisory=measure.buckets
        ).record


def _length(span: Span, seconds: float) -> float:
    started, ended = getattr(span, "start_time", None), getattr(span, "end_time", None)
    return seconds if started is None or ended is None else (ended - started) / 1e9


def _by_modality(kind: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The parts of a figure by their modality, and the rest."""
    rest = attributes.get(f"gen_ai.usage.{kind}") or 0
    for modality in ("text", "image", "audio"):
        tokens = min(attributes.get(f"gen_ai.usage.{modality}.{kind}") or 0, rest)
        if tokens:
            rest -= tokens
            yield modality, tokens
    if rest:
        yield "unknown", rest
