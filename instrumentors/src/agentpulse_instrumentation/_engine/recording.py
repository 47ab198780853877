"""Where calls are recorded: the tracer, log events and metrics of one `instrument()` in force.

Events and metrics are those of the conventions; they go to the providers given, or to the global
ones if there are any, also those set later. Samplers thin out traces and not figures: a call is
measured whether its span is recorded or not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple, Protocol
from weakref import ReferenceType, ref

from opentelemetry import _logs, metrics
from opentelemetry._logs import Logger, LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, Tracer, TracerProvider, set_span_in_context

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.content import Content, ContentPolicy
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import INFERENCE, Attributes
from agentpulse_instrumentation._engine.patching import Patches, shield

VERSION = "2.0.0"
"""Of this distribution, also where its metadata is not installed with it."""

_FIND = shield("find a logger")
_EMIT = shield("emit an event")
_LEAVE = shield("end what is unfinished")
_RECORD = shield("record metrics")


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
_AGENT_SECONDS = tuple(round(0.1 * 2**power, 1) for power in range(13))
_WORKFLOW_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_TOKENS = tuple(4**power for power in range(14))
_MODALITIES = ("text", "image", "audio")
_CALLS = tuple(2**power for power in range(8))
_OF_CHUNKS = (
    *(semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.SERVER_ADDRESS, semconv.SERVER_PORT),
    *(semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL),
)
_OF_USAGE = (*_OF_CHUNKS, semconv.OPENAI_RESPONSE_SERVICE_TIER, semconv.OPENAI_SYSTEM_FINGERPRINT)
_OF_CALLS = (*_OF_USAGE, semconv.ERROR_TYPE)
_OF_AGENTS = (semconv.AGENT_NAME, semconv.ERROR_TYPE)
_OF_TOOLS = (semconv.TOOL_NAME, semconv.TOOL_TYPE, *_OF_AGENTS)
_OF_WORKFLOWS = (semconv.WORKFLOW_NAME, semconv.ERROR_TYPE)
_INFERENCE, _AGENT = "gen_ai.client.inference", "gen_ai.invoke_agent"

DURATIONS = {
    **dict.fromkeys(INFERENCE, Measure(f"{_INFERENCE}.duration", "s", _OF_CALLS, _SECONDS)),
    "invoke_agent": Measure(f"{_AGENT}.duration", "s", _OF_AGENTS, _AGENT_SECONDS),
    "invoke_workflow": Measure(
        "gen_ai.invoke_workflow.duration", "s", _OF_WORKFLOWS, _WORKFLOW_SECONDS
    ),
    "execute_tool": Measure("gen_ai.execute_tool.duration", "s", _OF_TOOLS, _SECONDS),
}
"""By operation."""
OTHER_DURATION = Measure("gen_ai.client.operation.duration", "s", _OF_CALLS, _SECONDS)
LATER_CHUNKS = Measure(f"{_INFERENCE}.time_per_output_chunk", "s", _OF_CHUNKS, _SECONDS)
CALLS = {
    kind: Measure(f"{_AGENT}.{kind}s", f"{{{kind}}}", (semconv.AGENT_NAME,), _CALLS)
    for kind in ("inference_call", "tool_call")
}
"""The calls of one run of an agent."""
FIGURES = {
    f"gen_ai.usage.{kind}": Measure(f"{_INFERENCE}.operation.{kind}", "{token}", _OF_USAGE, _TOKENS)
    for kind in ("input_tokens", "output_tokens")
}
FIGURES[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = Measure(
    f"{_INFERENCE}.time_to_first_chunk", "s", _OF_CHUNKS, _SECONDS
)
"""The figures of one inference, by the attribute that each is."""
USAGE = {
    kind: Measure(f"{_INFERENCE}.usage.{kind}", "{token}", (*_OF_USAGE, semconv.MODALITY))
    for kind in (
        *("input_tokens", "output_tokens", "reasoning.output_tokens"),
        *("cache_read.input_tokens", "cache_write.input_tokens"),
    )
}
"""The tokens of all inferences, by their kind, which is the end of an attribute's name."""


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
        return self.provider is not None or (
            type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"
        )

    def record(
        self, span: Span, attributes: Mapping[str, Any], seconds: float, inside: AgentCalls | None
    ) -> None:
        """Measures what is over. Never raises.

        Args:
            span: Its span, which has ended; if it was recorded, its own length counts.
            attributes: What the span was given.
            seconds: How long it took by our own clock.
            inside: The agent for whose run the calls inside counted.
        """
        operation = attributes.get(semconv.OPERATION_NAME)
        # An answer of a cache is no call.
        if operation is None or semconv.ANSWERED_BY in attributes or not self.is_on:
            return
        with _RECORD:
            if semconv.CALLED_IN_AGENT in attributes:
                # On spans, the name of an agent means that they are its.
                attributes = {semconv.AGENT_NAME: attributes[semconv.CALLED_IN_AGENT], **attributes}
            measure = DURATIONS.get(operation, OTHER_DURATION)
            self._record(measure, _length(span, seconds), attributes)
            if operation in INFERENCE:
                self._inference(attributes)
            if operation == "invoke_agent" and inside is not None:
                for each, total in zip(CALLS.values(), inside.totals(), strict=True):
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
            rest = attributes.get(f"gen_ai.usage.{kind}") or 0
            parts = {each: attributes.get(f"gen_ai.usage.{each}.{kind}") for each in _MODALITIES}
            for modality, part in {**parts, "unknown": rest}.items():
                if tokens := min(part or 0, rest):
                    rest -= tokens
                    self._record(measure, tokens, {**attributes, semconv.MODALITY: modality})

    def _record(self, measure: Measure, value: float, attributes: Mapping[str, Any]) -> None:
        if measure.name not in self._instruments:
            self._instruments[measure.name] = self._instrument(measure)
        chosen = {name: attributes[name] for name in measure.attributes if name in attributes}
        self._instruments[measure.name](value, chosen)

    def _instrument(self, measure: Measure) -> Any:
        url, name, unit = semconv.SCHEMA_URL, measure.name, measure.unit
        meter = metrics.get_meter(self.scope, VERSION, self.provider, schema_url=url)
        if measure.buckets is None:
            return meter.create_counter(name, unit).add
        limits = measure.buckets
        return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=limits).record


def _length(span: Span, seconds: float) -> float:
    started, ended = getattr(span, "start_time", None), getattr(span, "end_time", None)
    return seconds if started is None or ended is None else (ended - started) / 1e9


_SESSION = (
    *("session.id", "user.id", "agentpulse.session.", "agentpulse.metadata."),
    semconv.CALLED_IN_AGENT,
)
"""The beginnings of the names of a session's attributes."""
_OWN_RECORDS = ("1.36.", "1.37.")
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"


def emit(logger: Logger, name: str, span: Span, attributes: Mapping[str, Any], at: int) -> None:
    """Emits an event of a span, at a time in nanoseconds since 1970."""
    severity = SeverityNumber.WARN if name == EXCEPTION else SeverityNumber.DEBUG
    record = _record_type(logger)(
        event_name=name,
        severity_number=severity,
        severity_text=severity.name,
        context=set_span_in_context(span),
        attributes=attributes,
        timestamp=at,
    )
    logger.emit(record)


def _record_type(logger: Logger) -> Callable[..., LogRecord]:
    module = type(logger).__module__
    is_sdk = module.startswith("opentelemetry.sdk.")
    # By its own module: in a packaged program its metadata may be missing.
    if is_sdk and import_module("opentelemetry.sdk.version").__version__.startswith(_OWN_RECORDS):
        # The SDK of 1.36 takes only records of its own class, which hold the resource; that of 1.37
        # makes such a record of any other, and warns of how it does that.
        return partial(sys.modules[module].LogRecord, resource=getattr(logger, "resource", None))
    return LogRecord


def emit_call(
    logger: Logger,
    span: Span,
    attributes: Attributes,
    content: Content,
    policy: ContentPolicy,
    error: BaseException | None,
    timestamp: int,
) -> None:
    """Emits the events of a call whose span, still open for them, was given the attributes."""
    # What takes them may ask a model itself, which would be events again.
    with _EMIT, suppress_instrumentation():
        if error is not None:
            of_error = policy.exception_attributes(error)
            emit(logger, EXCEPTION, span, of_error, timestamp)
        if attributes.get(semconv.OPERATION_NAME) in INFERENCE:
            # Of what others put onto the span, the events have the session.
            found: Any = getattr(span, "attributes", None) or {}
            session = {n: value for n, value in found.items() if n.startswith(_SESSION)}
            of_span = policy.event_attributes({**session, **attributes}, content)
            emit(logger, DETAILS, span, of_span, timestamp)


class Leavable(Protocol):
    """Something whose span ends when it is left."""

    def left(self) -> None:
        """The caller will read no further."""


_Open = dict[int, "ReferenceType[Leavable]"]


def is_captured(policy: ContentPolicy, logger: Logger | None) -> bool:
    """Whether the content of a call is, whose events go to that logger."""
    return policy.on_spans or (policy.on_events and logger is not None)


@dataclass(eq=False)
class Recording:
    """One `instrument()` in force: where it records to and what, until it is taken back."""

    tracer: Tracer
    provider: TracerProvider | None
    """Where the spans go, as given; None for the global provider."""
    policy: ContentPolicy
    metrics: Metrics
    logger_provider: LoggerProvider | None = None
    """Where the events go, as given; None for the global provider, if there is one."""
    patches: dict[str, Patches] = field(default_factory=dict[str, Patches])
    """By the name of the library, in the order in which they are put on."""
    active: bool = True
    """False once uninstrumented: a wrapper that is still in somebody's hands passes through."""
    _open: _Open = field(default_factory=_Open, init=False)
    """The answers that nobody has read to their end or closed, held weakly, from any thread."""
    _found: tuple[LoggerProvider | None, Logger | None] = field(default=(None, None), init=False)

    def opened(self, answer: Leavable) -> None:
        """Notes an answer that is open from now on."""
        self._open[id(answer)] = ref(answer)

    def closed(self, answer: Leavable) -> None:
        """Forgets it, as whoever noted it must do no later than when it is finalized."""
        self._open.pop(id(answer), None)

    def leave(self) -> None:
        """Ends the spans of all answers that are still open, so that none is lost with the process.

        Spans that were begun in the parent process are not ended in a forked child.
        """
        for reference in list(self._open.values()):
            answer = reference()
            if answer is not None:
                # One that can't be ended keeps no other open.
                with _LEAVE:
                    answer.left()

    def event_logger(self) -> Logger | None:
        """Where the events of a call that begins now go; None where none are wanted or taken.

        Never raises: a provider that fails costs the events, and not the span.
        """
        if not self.policy.emits_events:
            return None
        with _FIND:
            provider = self.logger_provider or _logs.get_logger_provider()
            known, logger = self._found
            if provider is not known:
                # Where none was set, the API hands out a stand-in, whose class has no public name.
                is_one = type(provider).__name__ != "ProxyLoggerProvider"
                scope, url = self.metrics.scope, semconv.SCHEMA_URL
                logger = provider.get_logger(scope, VERSION, schema_url=url) if is_one else None
                self._found = provider, logger
            # OpenTelemetry has this question since 1.45.
            takes = getattr(logger, "enabled", None)
            if takes is None or takes(severity_number=SeverityNumber.DEBUG, event_name=DETAILS):
                return logger
        return None
