"""The kill switch stops all three ways in: `init`, the instrumentors, the exporter."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from agentpulse_exporter import (
    AgentPulseSpanExporter,
    AgentPulseSpanProcessor,
    ConfigurationError,
    CostEnrichingExporter,
    Stats,
)
from agentpulse_exporter import settings as exporter_settings
from agentpulse_instrumentation import INSTRUMENTORS, OpenAIInstrumentor, instrument, uninstrument
from agentpulse_instrumentation._engine import instrumentor, patching
from fakes.pipe import CALL, KEY
from fakes.receiver import Receiver
from openai._base_client import SyncAPIClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentpulse
from agentpulse import _output as logs
from agentpulse.demo.provider import FakeProvider
from agentpulse.settings import resolve

OFF = [
    *({"AGENTPULSE_ENABLED": word} for word in ("false", "0", "no", "off", " FALSE ", "Off")),
    {"OTEL_SDK_DISABLED": "true"},
    {"OTEL_SDK_DISABLED": " True "},
]
ON = [
    *({"AGENTPULSE_ENABLED": word} for word in ("true", "1", "yes", "on", " TRUE ", "", " ")),
    {"OTEL_SDK_DISABLED": "false"},
]
WRONG = {
    # None of it matters to whoever is off.
    "AGENTPULSE_ENDPOINT": "nowhere",
    "AGENTPULSE_API_KEY": "no key",
    "AGENTPULSE_MAX_BATCH_SIZE": "many",
    "AGENTPULSE_PRICES": "/no/such/file.json",
    "AGENTPULSE_CAPTURE_MESSAGES": "maybe",
}
REQUEST = vars(SyncAPIClient)["request"]


@pytest.fixture(autouse=True)
def clean_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    logs._warned.clear()
    exporter_settings._log_problems.cache_clear()
    patching.warn_once.cache_clear()
    yield
    agentpulse.shutdown(timeout=0)
    uninstrument()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)


class Ways:
    """All that may be put together by hand, on a provider that ignores OTEL_SDK_DISABLED."""

    def __init__(self, url: str | None, **options: Any) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider._disabled = False
        self.others = InMemorySpanExporter()
        self.bare = AgentPulseSpanExporter(None, url, **options)
        self.processor = AgentPulseSpanProcessor(AgentPulseSpanExporter(None, url, **options))
        enriching = CostEnrichingExporter(self.others, **options)
        for each in (
            self.processor,
            SimpleSpanProcessor(self.bare),
            SimpleSpanProcessor(enriching),
        ):
            self.provider.add_span_processor(each)
        OpenAIInstrumentor().instrument(tracer_provider=self.provider, **options)
        instrument(tracer_provider=self.provider, **options)

    def use(self) -> None:
        """A call and an agent."""
        tracer = self.provider.get_tracer("tests")
        tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
        tracer.start_span("chat gpt-4o", attributes=CALL).end()


def assert_nothing_happens(ways: Ways, receiver: Receiver, threads: int) -> None:
    ways.use()
    ways.processor.enqueue(ways.others.get_finished_spans()[-1])
    assert ways.processor.flush()
    assert ways.processor.force_flush()
    assert ways.bare.force_flush()
    spans = ways.others.get_finished_spans()
    assert ways.bare.export(spans) is SpanExportResult.SUCCESS
    assert [dict(span.attributes or {}) for span in spans] == [
        {"gen_ai.operation.name": "invoke_agent"},
        {**CALL, "gen_ai.response.finish_reasons": ("stop",)},
    ]
    assert vars(SyncAPIClient)["request"] is REQUEST
    assert not any(kind().is_patched for kind in INSTRUMENTORS.values())
    assert not any(kind().is_instrumented_by_opentelemetry for kind in INSTRUMENTORS.values())
    assert threading.active_count() == threads
    assert ways.processor.stats() == ways.bare.stats() == Stats()
    ways.provider.shutdown()
    assert ways.processor.stop()
    assert ways.processor.stats() == ways.bare.stats() == Stats()
    assert receiver.requests == []


@pytest.mark.parametrize("variables", OFF, ids=str)
def test_switched_off_by_a_variable_nothing_is_patched_queued_priced_or_sent(
    variables: dict[str, str],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_variables(monkeypatch, {**WRONG, **variables, "https_proxy": "http://:no-port"})
    threads = threading.active_count()

    assert_nothing_happens(Ways(receiver.url), receiver, threads)
    assert_nothing_happens(Ways(None), receiver, threads)
    agentpulse.init(endpoint=receiver.url)
    agentpulse.event("nothing")
    assert agentpulse.flush()
    assert receiver.requests == []
    assert [record.getMessage() for record in caplog.records] == []


def test_switched_off_by_an_argument_it_is_the_same(receiver: Receiver) -> None:
    threads = threading.active_count()
    assert_nothing_happens(Ways(receiver.url, enabled=False), receiver, threads)


@pytest.mark.parametrize("variables", ON, ids=str)
def test_switched_on_all_of_it_works(
    variables: dict[str, str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    assert_all_works(Ways(receiver.url), receiver)


@pytest.mark.parametrize("word", ["false", "maybe"])
def test_an_argument_wins_over_the_variable(
    word: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTPULSE_ENABLED", word)
    assert_all_works(Ways(receiver.url, enabled=True), receiver)


def assert_all_works(ways: Ways, receiver: Receiver) -> None:
    ways.use()
    assert ways.processor.flush()
    ways.provider.shutdown()
    assert len(receiver.of_kind("llm_call")) == 1
    assert ways.others.get_finished_spans()[-1].attributes["agentpulse.cost.total"] > 0  # pyright: ignore[reportOptionalSubscript, reportOperatorIssue]  # that is the test
    assert OpenAIInstrumentor().is_patched
    assert vars(SyncAPIClient)["request"] is not REQUEST


def test_init_that_is_reported_to_run_patches_prices_and_sends_whatever_the_variable_says(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTPULSE_ENABLED", "false")
    provider = TracerProvider(shutdown_on_exit=False)
    with FakeProvider() as fake:
        agentpulse.init(
            endpoint=receiver.url, enabled=True, heartbeat_interval=0, tracer_provider=provider
        )
        with openai.OpenAI(api_key="x", base_url=fake.openai_url, max_retries=0) as client:
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "What is new?"}]
            )
        assert agentpulse.flush()

    (call,) = receiver.of_kind("llm_call")
    assert call["data"]["cost_usd"] > 0


def test_what_is_switched_off_takes_no_span_from_an_exporter_that_is_on(
    receiver: Receiver,
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    off = AgentPulseSpanProcessor(AgentPulseSpanExporter(KEY, receiver.url, enabled=False))
    on = AgentPulseSpanProcessor(AgentPulseSpanExporter(KEY, receiver.url))
    for each in (off, on):
        provider.add_span_processor(each)
    agent = {"gen_ai.operation.name": "invoke_agent"}
    provider.get_tracer("tests").start_span("agent", attributes=agent).end()
    assert on.flush()
    provider.shutdown()

    kinds = [event["kind"] for event in receiver.events]
    assert kinds == ["span_start", "span_end"]


def test_it_is_read_when_something_is_made(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTPULSE_ENABLED", "false")
    instrument(["openai"])
    early = AgentPulseSpanExporter(KEY, receiver.url)
    monkeypatch.setenv("AGENTPULSE_ENABLED", "true")
    instrument(["openai"])
    late = AgentPulseSpanExporter(KEY, receiver.url)
    monkeypatch.setenv("AGENTPULSE_ENABLED", "false")

    assert [early.sender.is_on, late.sender.is_on] == [False, True]
    assert vars(SyncAPIClient)["request"] is not REQUEST


@pytest.mark.parametrize("word", ["maybe", "falsch", "2", "disabled"])
def test_a_word_that_makes_no_sense_is_stated_and_nothing_runs(
    word: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AGENTPULSE_ENABLED", word)
    complaint = f"AGENTPULSE_ENABLED is {word!r}; expected true or false."
    threads = threading.active_count()
    assert_nothing_happens(Ways(receiver.url), receiver, threads)
    for _ in range(2):
        instrument()
        agentpulse.init(endpoint=receiver.url)

    assert vars(SyncAPIClient)["request"] is REQUEST
    assert [record.getMessage() for record in caplog.records] == [
        f"The exporter is off until this is corrected: {complaint}",
        f"Nothing is instrumented: {complaint}",
        f"AgentPulse is off until this is corrected: {complaint}",
    ]


@pytest.mark.parametrize(
    "name", ["enabled", "capture_messages", "allow_insecure", "export_all_spans"]
)
@pytest.mark.parametrize("given", ["false", "no", 0, 1])
def test_a_switch_of_the_exporter_takes_true_and_false_alone(name: str, given: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=f"The argument {name} is of type {type(given).__name__}; expected"
    ):
        AgentPulseSpanExporter(KEY, **{name: given})


@pytest.mark.parametrize("variables", [*OFF, *ON], ids=str)
def test_all_readers_of_the_switch_agree(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    is_on = variables in ON
    assert AgentPulseSpanExporter(KEY).sender.is_on is is_on
    assert instrumentor.is_enabled(None) is is_on
    if "OTEL_SDK_DISABLED" not in variables:
        assert resolve({}).enabled is is_on


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("AGENTPULSE_API_KEY", "garbage", "AGENTPULSE_API_KEY can't be used; expected a key"),
        (
            "AGENTPULSE_ENDPOINT",
            "http://pulse.example",
            "AGENTPULSE_ENDPOINT is 'http://pulse.example', where key and events would travel",
        ),
        ("AGENTPULSE_MAX_BATCH_SIZE", "501", "AGENTPULSE_MAX_BATCH_SIZE is '501'; expected a"),
        ("AGENTPULSE_PRICES", "/no/such.json", "AGENTPULSE_PRICES can't be used: The price file"),
        ("https_proxy", "http://:no-port", "https_proxy is no address of a proxy; expected"),
        (
            "https_proxy",
            "socks5h://127.0.0.1:1080",
            "https_proxy is no address of a proxy; expected",
        ),
        ("https_proxy", "https://proxy.example", "https_proxy is no address of a proxy; expected"),
    ],
)
def test_a_mistake_in_the_environment_is_logged_once_and_switches_the_exporter_off(
    name: str,
    text: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, text)
    processors = [AgentPulseSpanProcessor(AgentPulseSpanExporter()) for _ in range(2)]

    for processor in processors:
        span = TracerProvider(shutdown_on_exit=False).get_tracer("tests").start_span("x")
        processor.enqueue(span)  # pyright: ignore[reportArgumentType]  # a span of the SDK
        assert processor.flush()
        assert processor.stop()
        assert processor.stats() == Stats()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"The exporter is off until this is corrected: {complaint}")


def test_the_standard_variable_has_no_content_of_spans_sent_without_the_exporters_own_setting(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    message = {
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]'
    }
    for captures in (True, None, False):
        exporter = AgentPulseSpanExporter(KEY, receiver.url, capture_messages=captures)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.get_tracer("tests").start_span("chat", attributes={**CALL, **message}).end()
        provider.shutdown()

    sent = receiver.of_kind("llm_call")
    assert ["Hi" in str(event) for event in sent] == [True, False, False]
