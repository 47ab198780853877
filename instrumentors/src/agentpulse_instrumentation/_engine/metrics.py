"""Records the GenAI metrics, for programs that have a meter provider.

Samplers thin out traces and not figures: a call is measured whether its span is recorded or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import (
    INFERENCE,
    Accumulator,
    Attributes,
    Operation,
)
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation._version import VERSION

# The GenAI metrics of the conventions: their names, units, buckets and attributes.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measure:
    """One metric: a histogram, or (without buckets) a counter.

    Attributes:
        attributes: Those of the span that it has too.
    """

    name: str
    unit: str
    buckets: tuple[float, ...] | None
    attributes: tuple[str, ...]


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SECONDS_OF_AGENTS = tuple(round(0.1 * 2**power, 1) for power in range(13))
_SECONDS_OF_WORKFLOWS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOKENS = tuple(4**power for power in range(14))
_CALLS = tuple(2**power for power in range(8))

_OF_CHUNKS = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
_OF_TOKENS = (
    *_OF_CHUNKS,
    semconv.OPENAI_RESPONSE_SERVICE_TIER,
    semconv.OPENAI_SYSTEM_FINGERPRINT,
)
_OF_CALLS = (*_OF_TOKENS, semconv.ERROR_TYPE)
_INFERENCE = "gen_ai.client.inference"


def _seconds(
    name: str, attributes: tuple[str, ...], buckets: tuple[float, ...] = _SECONDS
) -> Measure:
    return Measure(name=name, unit="s", buckets=buckets, attributes=attributes)


INFERENCE_DURATION = _seconds(f"{_INFERENCE}.duration", _OF_CALLS)
FIRST_CHUNK = _seconds(f"{_INFERENCE}.time_to_first_chunk", _OF_CHUNKS)
LATER_CHUNKS = _seconds(f"{_INFERENCE}.time_per_output_chunk", _OF_CHUNKS)
OTHER_DURATION = _seconds("gen_ai.client.operation.duration", _OF_CALLS)
RUNS: Mapping[object, Measure] = {
    "invoke_agent": _seconds(
        "gen_ai.invoke_agent.duration",
        (semconv.AGENT_NAME, semconv.ERROR_TYPE),
        _SECONDS_OF_AGENTS,
    ),
    "invoke_workflow": _seconds(
        "gen_ai.invoke_workflow.duration",
        (semconv.WORKFLOW_NAME, semconv.ERROR_TYPE),
        _SECONDS_OF_WORKFLOWS,
    ),
    "execute_tool": _seconds(
        "gen_ai.execute_tool.duration",
        (semconv.AGENT_NAME, semconv.TOOL_NAME, semconv.TOOL_TYPE, semconv.ERROR_TYPE),
    ),
}
"""The durations of what isn't a client's, by operation."""
INFERENCE_CALLS, TOOL_CALLS = (
    Measure(
        name=f"gen_ai.invoke_agent.{kind}s",
        unit=f"{{{kind}}}",
        buckets=_CALLS,
        attributes=(semconv.AGENT_NAME,),
    )
    for kind in ("inference_call", "tool_call")
)
SIZES: Mapping[str, Measure] = {
    f"gen_ai.usage.{kind}": Measure(
        name=f"{_INFERENCE}.operation.{kind}",
        unit="{token}",
        buckets=_TOKENS,
        attributes=_OF_TOKENS,
    )
    for kind in ("input_tokens", "output_tokens")
}
"""The tokens of one call, by their attribute."""
USAGE: Mapping[str, Measure] = {
    f"gen_ai.usage.{kind}": Measure(
        name=f"{_INFERENCE}.usage.{kind}", unit="{token}", buckets=None, attributes=_OF_TOKENS
    )
    for kind in (
        "input_tokens",
        "output_tokens",
        "cache_read.input_tokens",
        "cache_write.input_tokens",
        "reasoning.output_tokens",
    )
}
"""The tokens of all calls, by their attribute."""
MODALITIES: Mapping[str, Mapping[str, str]] = {
    semconv.USAGE_INPUT_TOKENS: {
        "text": semconv.USAGE_TEXT_INPUT_TOKENS,
        "image": semconv.USAGE_IMAGE_INPUT_TOKENS,
        "audio": semconv.USAGE_AUDIO_INPUT_TOKENS,
    },
    semconv.USAGE_OUTPUT_TOKENS: {
        "text": semconv.USAGE_TEXT_OUTPUT_TOKENS,
        "image": semconv.USAGE_IMAGE_OUTPUT_TOKENS,
        "audio": semconv.USAGE_AUDIO_OUTPUT_TOKENS,
    },
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: {
        "audio": semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
    },
}
"""The parts of a figure by their modality, as attributes."""

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
            span: Its span, which has ended; if it was recorded, its own length counts.
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
            if operation in INFERENCE:
                self._inference(seconds, attributes)
            else:
                measure = RUNS.get(operation, OTHER_DURATION)
                self._record(measure, seconds, attributes)
            if calls is not None:
                inference, tools = calls.totals()
                self._record(INFERENCE_CALLS, inference, attributes)
                self._record(TOOL_CALLS, tools, attributes)

    def record_chunks(self, seconds: Iterable[float], attributes: Mapping[str, Any]) -> None:
        """Measures chunks of a stream after its first: how long after the one before each came."""
        with _RECORD:
            for each in seconds:
                self._record(LATER_CHUNKS, each, attributes)

    def _inference(self, seconds: float, attributes: Mapping[str, Any]) -> None:
        self._record(INFERENCE_DURATION, seconds, attributes)
        first = attributes.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        if first is not None:
            self._record(FIRST_CHUNK, first, attributes)
        if attributes.get(semconv.USAGE_ESTIMATED) is True:
            return
        for name, measure in SIZES.items():
            if (tokens := attributes.get(name)) is not None:
                self._record(measure, tokens, attributes)
        for name, measure in USAGE.items():
            for modality, tokens in _by_modality(name, attributes):
                chosen = {**_chosen(measure, attributes), semconv.MODALITY: modality}
                self._instrument(measure).add(tokens, chosen)

    def _record(self, measure: Measure, value: float, attributes: Mapping[str, Any]) -> None:
        self._instrument(measure).record(value, _chosen(measure, attributes))

    @cached_property
    def _meter(self) -> metrics.Meter:
        return metrics.get_meter(
            self._scope, VERSION, self._provider, schema_url=semconv.SCHEMA_URL
        )

    def _instrument(self, measure: Measure) -> Any:
        found = self._instruments.get(measure)
        if found is None:
            make = self._meter.create_counter
            if measure.buckets is not None:
                make = partial(
                    self._meter.create_histogram,
                    explicit_bucket_boundaries_advisory=measure.buckets,
                )
            found = self._instruments[measure] = make(measure.name, measure.unit)
        return found


def _length(span: Span, seconds: float) -> float:
    started, ended = getattr(span, "start_time", None), getattr(span, "end_time", None)
    return seconds if started is None or ended is None else (ended - started) / _NANOSECONDS


def _by_modality(name: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The parts of a figure by their modality, and the rest."""
    rest = attributes.get(name) or 0
    for modality, part in MODALITIES.get(name, {}).items():
        tokens = min(attributes.get(part) or 0, rest)
        if tokens:
            rest -= tokens
            yield modality, tokens
    if rest:
        yield "unknown", rest


def _chosen(measure: Measure, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in measure.attributes if name in attributes}


# How long each chunk of a stream took to come after the one before, where that is measured.
#
# The look at the clock for every chunk, and the recording of some at a time, are only made where
# there is a meter provider.

_RECORD_CHUNKS = shield("record the times of chunks")


class ChunkTimes:
    """The chunks of one stream."""

    __slots__ = ("_arrivals", "_attributes", "_metrics", "_operation")

    def __init__(self, metrics: Metrics, operation: Operation, attributes: Attributes) -> None:
        """`attributes` are those of the request."""
        self._metrics = metrics
        self._operation = operation
        self._attributes = attributes
        self._arrivals: list[float] = []

    def arrived(self, at: float) -> None:
        """The next chunk came, at this time of `perf_counter`."""
        self._arrivals.append(at)

    def record(self, accumulator: Accumulator | None) -> None:
        """Records those that came since it was last called; all of them are in the accumulator."""
        if len(self._arrivals) < 2:
            return
        with _RECORD_CHUNKS:
            if accumulator is not None and semconv.RESPONSE_MODEL not in self._attributes:
                self._attributes = self._with_model(accumulator)
            arrivals, self._arrivals = self._arrivals, self._arrivals[-1:]
            gaps = [later - earlier for earlier, later in pairwise(arrivals)]
            self._metrics.record_chunks(gaps, self._attributes)

    def _with_model(self, accumulator: Accumulator) -> Attributes:
        answer: Attributes = {}
        self._operation.answer.read(accumulator.answer(), answer)
        model = answer.get(semconv.RESPONSE_MODEL)
        if model is None:
            return self._attributes
        # A request can name a stored prompt or a deployment instead.
        named = {semconv.RESPONSE_MODEL: model, semconv.REQUEST_MODEL: model}
        return {**named, **self._attributes}
