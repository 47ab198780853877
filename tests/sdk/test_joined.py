"""What was joined, in plain words: by `client.joined`, in `sdk_init`, in our log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_exporter import (
    AgentPulseSpanExporter,
    AgentPulseSpanProcessor,
    CostEnrichingExporter,
)
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from sdk.conftest import KEY, Receiver

import agentpulse
from agentpulse._otel.joining import describe, sampling_in_words

SDK = "(opentelemetry.sdk.trace.TracerProvider)"
OURS = (
    "SessionProcessor (AgentPulse)",
    "AgentPulseSpanProcessor → AgentPulseSpanExporter (AgentPulse)",
)


@pytest.fixture
def init(receiver: Receiver) -> Callable[..., Any]:
    def init(**options: Any) -> Any:
        given = {"endpoint": receiver.endpoint, "auto_patch": False, **options}
        return agentpulse.init(**given)

    return init


def test_a_provider_that_init_makes_is_our_own(init: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is one for the process, and of no use to other tests.
    monkeypatch.setattr("agentpulse._otel.provider._own", None)
    joined = init().joined
    assert joined.provider == f"AgentPulse's own {SDK}"
    assert joined.processors == OURS
    assert joined.sampling is None


def test_processors_are_told_with_the_exporters_inside_them(
    init: Any, provider: TracerProvider
) -> None:
    class Around(SpanProcessor):
        __module__ = "tests.around"

        def __init__(self, inside: SpanProcessor) -> None:
            self.whatever = [inside]

    console = ConsoleSpanExporter()
    provider.add_span_processor(SpanProcessor())
    provider.add_span_processor(Around(Around(BatchSpanProcessor(console))))
    provider.add_span_processor(SimpleSpanProcessor(CostEnrichingExporter(console)))

    joined = init(tracer_provider=provider).joined

    assert joined.provider == f"set up by the program, with tests {SDK}"
    assert joined.processors == (
        OURS[0],
        "SpanProcessor",
        "BatchSpanProcessor → ConsoleSpanExporter",
        "SimpleSpanProcessor → CostEnrichingExporter → ConsoleSpanExporter",
        OURS[1],
    )
    provider.shutdown()


def test_an_exporter_that_stands_aside_is_told_to(
    init: Any, receiver: Receiver, provider: TracerProvider
) -> None:
    for key, wrapping in ((KEY, BatchSpanProcessor), ("ap_another", BatchSpanProcessor)):
        provider.add_span_processor(wrapping(AgentPulseSpanExporter(key, receiver.endpoint)))
    mine = AgentPulseSpanProcessor(AgentPulseSpanExporter(KEY, receiver.endpoint))
    provider.add_span_processor(mine)

    joined = init(tracer_provider=provider, api_key=KEY).joined

    assert joined.processors[1:4] == (
        "BatchSpanProcessor → AgentPulseSpanExporter (stands aside for AgentPulse)",
        "BatchSpanProcessor → AgentPulseSpanExporter",
        "AgentPulseSpanProcessor → AgentPulseSpanExporter (stands aside for AgentPulse)",
    )
    agentpulse.shutdown()
    provider.shutdown()


def test_what_is_added_later_is_told_too_and_nothing_while_it_is_off(
    init: Any, provider: TracerProvider
) -> None:
    client = init(tracer_provider=provider)
    provider.add_span_processor(SpanProcessor())
    assert client.joined.processors[-1] == "SpanProcessor"
    agentpulse.shutdown()
    assert client.joined is None
    assert describe(provider).processors == ("SpanProcessor",)


def test_processors_that_run_side_by_side_are_told() -> None:
    side_by_side = ConcurrentMultiSpanProcessor()
    provider = TracerProvider(active_span_processor=side_by_side, shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    assert describe(provider).processors == ("SpanProcessor",)


def test_processors_around_each_other_end_somewhere() -> None:
    class Around(SpanProcessor):
        inside: SpanProcessor

    first, second = Around(), Around()
    first.inside, second.inside = second, first
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(first)
    assert describe(provider).processors == ()


class Theirs(TracerProvider):
    __module__ = "theirs.tracing"


@pytest.mark.parametrize(
    ("kind", "options", "whose"),
    [
        (trace.NoOpTracerProvider, {}, "one that takes no span processors"),
        (
            TracerProvider,
            {"resource": Resource({"telemetry.auto.version": "1"}), "shutdown_on_exit": False},
            "set up by OpenTelemetry's auto-instrumentation",
        ),
        (Theirs, {"shutdown_on_exit": False}, "theirs's"),
    ],
    ids=["API only", "auto-instrumentation", "another package's"],
)
def test_it_is_told_whose_a_provider_is(kind: Any, options: Any, whose: str) -> None:
    assert describe(kind(**options)).provider.startswith(f"{whose} (")


def test_where_none_is_set_that_is_told() -> None:
    assert describe(trace.ProxyTracerProvider()).provider == (
        "none is set, so agentpulse.init makes one"
    )


class Custom(Sampler):
    def should_sample(self, *arguments: Any, **more: Any) -> Any:
        return ALWAYS_ON.should_sample(*arguments, **more)

    def get_description(self) -> str:
        return "Custom{}"


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (DEFAULT_ON, None),
        (ALWAYS_ON, None),
        (TraceIdRatioBased(1), None),
        (ALWAYS_OFF, "0 of 100 traces are recorded"),
        (TraceIdRatioBased(0.25), "25 of 100 traces are recorded"),
        (ParentBased(TraceIdRatioBased(0.00001)), "0.001 of 100 traces are recorded"),
        (Custom(), "traces are recorded as Custom{} decides"),
    ],
    ids=lambda each: each.get_description() if isinstance(each, Sampler) else None,
)
def test_it_is_told_how_many_traces_are_recorded(sampler: Sampler, said: str | None) -> None:
    assert sampling_in_words(sampler.get_description()) == said


def test_a_sampler_is_warned_of_once(init: Any, caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(sampler=TraceIdRatioBased(0.1), shutdown_on_exit=False)
    for _ in range(2):
        init(tracer_provider=provider)
        agentpulse.shutdown()
    (warning,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("The tracer provider has a sampler: 10 of 100 traces are recorded")


def test_a_sampler_that_fails_to_tell_of_itself_stops_nothing(
    init: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Custom):
        def get_description(self) -> str:
            raise LookupError

    monkeypatch.setattr("agentpulse_instrumentation._shield.strict", False)
    client = init(tracer_provider=TracerProvider(sampler=Broken(), shutdown_on_exit=False))
    assert client.is_on
    assert client.joined is None
    assert agentpulse.flush()
    assert "tracer_provider" not in receiver.of_kind("sdk_init")[0]["data"]


def test_the_server_and_our_log_are_told(
    init: Any, receiver: Receiver, provider: TracerProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.add_span_processor(SpanProcessor())
    init(tracer_provider=provider, debug=True)
    assert agentpulse.flush()
    data = receiver.of_kind("sdk_init")[0]["data"]
    assert data["tracer_provider"] == f"set up by the program {SDK}"
    assert data["span_processors"] == [OURS[0], "SpanProcessor", OURS[1]]
    assert f"Tracer provider: set up by the program {SDK}. Its span processors: {OURS[0]}; " in (
        capsys.readouterr().err
    )
