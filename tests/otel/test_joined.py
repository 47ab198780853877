"""The provider that was joined, in words: by `client.joined`, in `sdk_init`, in our log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_exporter import (
    CostEnrichingExporter,
)
from fakes.sdk import Receiver
from opentelemetry import trace
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

import agentpulse
from agentpulse._otel.provider import Joined, describe, sampling_in_words

CLASS = "opentelemetry.sdk.trace.TracerProvider"
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
    assert joined.provider == f"AgentPulse's own ({CLASS})"
    assert joined.processors == OURS
    assert joined.sampling is None


def test_processors_are_named_with_their_exporters(init: Any, provider: TracerProvider) -> None:
    console = ConsoleSpanExporter()
    provider.add_span_processor(SpanProcessor())
    provider.add_span_processor(BatchSpanProcessor(console))
    provider.add_span_processor(SimpleSpanProcessor(CostEnrichingExporter(console)))

    joined = init(tracer_provider=provider).joined

    assert joined.provider == CLASS
    assert joined.processors == (
        OURS[0],
        "SpanProcessor",
        "BatchSpanProcessor → ConsoleSpanExporter",
        "SimpleSpanProcessor → CostEnrichingExporter → ConsoleSpanExporter",
        OURS[1],
    )
    provider.shutdown()


def test_a_processor_that_is_added_later_is_named_and_none_while_it_is_off(
    init: Any, provider: TracerProvider
) -> None:
    client = init(tracer_provider=provider)
    provider.add_span_processor(SpanProcessor())
    assert client.joined.processors[-1] == "SpanProcessor"
    agentpulse.shutdown()
    assert client.joined is None
    assert describe(provider).processors == ("SpanProcessor",)


def test_processors_that_run_side_by_side_are_named() -> None:
    side_by_side = ConcurrentMultiSpanProcessor()
    provider = TracerProvider(active_span_processor=side_by_side, shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    assert describe(provider).processors == ("SpanProcessor",)


def test_a_provider_of_the_api_alone_has_its_class_as_its_name() -> None:
    assert describe(trace.NoOpTracerProvider()) == Joined(
        "opentelemetry.trace.NoOpTracerProvider", (), None
    )


def test_a_provider_that_is_not_set_is_described() -> None:
    assert describe(trace.ProxyTracerProvider()).provider == (
        "none is set, so agentpulse.init makes one"
    )


class Custom(Sampler):
    def should_sample(self, *arguments: Any, **more: Any) -> Any:
        return ALWAYS_ON.should_sample(*arguments, **more)

    def get_description(self) -> str:
        return "Custom{}"


@pytest.mark.parametrize(
    ("sampler", "expected"),
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
def test_a_sampler_is_described_by_how_many_traces_it_records(
    sampler: Sampler, expected: str | None
) -> None:
    assert sampling_in_words(sampler.get_description()) == expected


def test_a_sampler_is_warned_of_once(init: Any, caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(sampler=TraceIdRatioBased(0.1), shutdown_on_exit=False)
    for _ in range(2):
        init(tracer_provider=provider)
        agentpulse.shutdown()
    (warning,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("The tracer provider has a sampler: 10 of 100 traces are recorded")


def test_a_sampler_that_fails_to_describe_itself_stops_nothing(
    init: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Custom):
        def get_description(self) -> str:
            raise LookupError

    monkeypatch.setattr("agentpulse_instrumentation._engine.patching.strict", False)
    client = init(tracer_provider=TracerProvider(sampler=Broken(), shutdown_on_exit=False))
    assert client.is_on
    assert client.joined is None
    assert agentpulse.flush()
    assert "tracer_provider" not in receiver.of_kind("sdk_init")[0]["data"]


def test_the_provider_is_in_sdk_init_and_in_our_log(
    init: Any, receiver: Receiver, provider: TracerProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.add_span_processor(SpanProcessor())
    init(tracer_provider=provider, debug=True)
    assert agentpulse.flush()
    data = receiver.of_kind("sdk_init")[0]["data"]
    assert data["tracer_provider"] == CLASS
    assert data["span_processors"] == [OURS[0], "SpanProcessor", OURS[1]]
    assert f"Tracer provider: {CLASS}. Its span processors: {OURS[0]}; " in (
        capsys.readouterr().err
    )
