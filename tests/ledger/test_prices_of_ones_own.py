"""The user's own prices count wherever a cost is made, in every unit of the price table."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, CostEnrichingExporter, calculate_cost
from fakes.pipe import CALL, KEY
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

pytestmark = pytest.mark.unconventional("its spans are made by hand, as much of them as matters")

OWN = {"gpt-4o*": {"input": 100, "output": 100}}


@pytest.fixture(autouse=True)
def no_exporter_of_an_earlier_test_runs() -> None:
    gc.collect()


@pytest.fixture
def in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(OWN))
    monkeypatch.setenv("AGENTPULSE_PRICES", str(file))
    return file


def enriched(exporter: CostEnrichingExporter, memory: InMemorySpanExporter) -> object:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    (span,) = memory.get_finished_spans()
    return (span.attributes or {}).get("agentpulse.cost.total")


def uploaded(exporter: AgentPulseSpanExporter, receiver: Receiver) -> object:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    (call,) = receiver.of_kind("llm_call")
    return call["data"]["cost_usd"]


@pytest.mark.usefixtures("in_the_environment")
def test_those_of_the_environment_count_in_uploads_in_other_exporters_and_in_functions(
    receiver: Receiver,
) -> None:
    memory = InMemorySpanExporter()
    by_function = calculate_cost("gpt-4o-2024-08-06", 1000, 100)
    beside = enriched(CostEnrichingExporter(memory), memory)
    exporter = AgentPulseSpanExporter(KEY, receiver.url)
    sent = uploaded(exporter, receiver)
    exporter.shutdown()

    assert by_function == beside == sent == pytest.approx(0.11)


def test_those_of_the_exporter_that_runs_count_everywhere_until_it_is_shut_down(
    receiver: Receiver,
) -> None:
    exporter = AgentPulseSpanExporter(KEY, receiver.url, prices=OWN)
    memory = InMemorySpanExporter()
    other = enriched(CostEnrichingExporter(memory), memory)
    while_it_runs = calculate_cost("gpt-4o", 1000, 100)
    sent = uploaded(exporter, receiver)
    exporter.shutdown()

    assert other == while_it_runs == sent == pytest.approx(0.11)
    assert calculate_cost("gpt-4o", 1000, 0) == pytest.approx(0.0025)


@pytest.mark.usefixtures("in_the_environment")
def test_those_of_an_argument_count_before_those_of_the_environment(receiver: Receiver) -> None:
    cheap = {"gpt-4o*": {"input": 1, "output": 1}}
    memory = InMemorySpanExporter()
    assert enriched(CostEnrichingExporter(memory, prices=cheap), memory) == pytest.approx(0.0011)
    exporter = AgentPulseSpanExporter(KEY, receiver.url, prices=cheap)
    assert calculate_cost("gpt-4o", 1000, 100) == pytest.approx(0.0011)
    exporter.shutdown()


def test_a_file_of_the_environment_that_cannot_be_read_switches_exporters_off_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AGENTPULSE_PRICES", str(tmp_path / "none.json"))
    CostEnrichingExporter(InMemorySpanExporter(), enabled=False)
    assert caplog.messages == []
    memory = InMemorySpanExporter()
    assert enriched(CostEnrichingExporter(memory), memory) is None
    (line,) = caplog.messages
    assert line.startswith("The exporter is off until this is corrected: AGENTPULSE_PRICES can't")


@pytest.mark.parametrize("written", ["bedrock", "aws.bedrock", "aws", "AWS.Bedrock"])
@pytest.mark.parametrize("recorded", ["aws.bedrock", "amazon_bedrock", "AWS Bedrock"])
def test_a_provider_may_be_spelt_in_any_way(written: str, recorded: str) -> None:
    exporter = AgentPulseSpanExporter(
        KEY, "http://127.0.0.1:9", prices={f"{written}/my-model": {"input": 3}}
    )
    assert calculate_cost("my-model", 1_000_000, 0, provider=recorded) == pytest.approx(3)
    exporter.shutdown()


def test_every_unit_of_the_table_may_have_a_price() -> None:
    own = {"seer": {"input_image": 7, "output_reasoning": 5, "web_searches": 10, "request": 0.5}}
    memory = InMemorySpanExporter()
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "seer",
        "gen_ai.usage.image.input_tokens": 1_000_000,
        "gen_ai.usage.reasoning.output_tokens": 1_000_000,
    }
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(CostEnrichingExporter(memory, prices=own)))
    provider.get_tracer("tests").start_span("chat", attributes=call).end()

    (span,) = memory.get_finished_spans()
    assert (span.attributes or {})["agentpulse.cost.total"] == pytest.approx(12.5)
