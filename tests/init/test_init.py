"""`init` and `shutdown` in a program that has a tracer provider of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from agentpulse_exporter._values import CUT
from fakes.sdk import KEY, Receiver
from openai._base_client import AsyncAPIClient, SyncAPIClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentpulse

CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}


def make_call(provider: TracerProvider) -> None:
    provider.get_tracer("test").start_span("chat gpt-4o", attributes=CALL).end()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_ends_on_a_joined_provider_is_sent(receiver: Receiver, provider: TracerProvider):
    client = agentpulse.init(
        api_key=KEY, endpoint=receiver.endpoint, agent_name="mailer", tracer_provider=provider
    )
    make_call(provider)

    assert agentpulse.flush()
    (call,) = receiver.of_kind("llm_call")
    assert call["data"]["request_model"] == "gpt-4o"
    assert set(receiver.keys) == {f"Bearer {KEY}"}
    stats = client.stats()
    assert (stats.ended, stats.accepted, stats.queued, stats.dropped) == (2, 2, 0, {})
    assert (stats.requests, stats.retries) == (receiver.requests, 0)
    assert agentpulse.get_client() is client
    assert client.is_on
    assert repr(client) == "<AgentPulse 'mailer', on>"


def test_init_reports_once_where_it_runs(receiver: Receiver, provider: TracerProvider):
    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)

    assert agentpulse.flush()
    (event,) = receiver.of_kind("sdk_init")
    data = event["data"]
    assert data["python"] == ".".join(map(str, sys.version_info[:3]))
    assert data["sdk_version"] == agentpulse.__version__
    assert f"openai {openai.__version__}" in data["libraries"]
    assert data["os"]
    assert data["architecture"]


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["/opt/mailer/agent.py", "--secret"], "agent.py"),
        (["-c"], "-c"),
        ([""], ""),
        ([], ""),
        ([None], ""),
        (None, ""),
        (["x" * 300], "x" * (256 - len(CUT)) + CUT),
    ],
)
def test_init_reports_the_name_of_the_program_and_none_of_its_arguments(
    arguments: object,
    program: str,
    receiver: Receiver,
    provider: TracerProvider,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(sys, "argv", arguments)

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)

    assert agentpulse.flush()
    (event,) = receiver.of_kind("sdk_init")
    assert event["data"]["program"] == program
    assert "secret" not in str(event)


def test_init_twice_is_one_pipeline(
    receiver: Receiver, provider: TracerProvider, caplog: pytest.LogCaptureFixture
):
    first = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    second = agentpulse.init(endpoint=receiver.endpoint + "/", tracer_provider=provider)
    third = agentpulse.init()
    make_call(provider)
    agentpulse.flush()

    assert first is second is third
    assert len(receiver.of_kind("llm_call")) == len(receiver.of_kind("sdk_init")) == 1
    assert warnings(caplog) == []


def test_init_in_many_threads_at_once_is_one_pipeline(receiver: Receiver, provider: TracerProvider):
    together = threading.Barrier(8)

    def init(_number: int) -> agentpulse.AgentPulse:
        together.wait()
        return agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)

    with ThreadPoolExecutor(8) as threads:
        clients = list(threads.map(init, range(8)))

    assert len(set(clients)) == 1
    assert agentpulse.flush()
    assert len(receiver.of_kind("sdk_init")) == 1


def test_init_with_other_arguments_warns_and_changes_nothing(
    receiver: Receiver, provider: TracerProvider, caplog: pytest.LogCaptureFixture
):
    first = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    second = agentpulse.init(agent_name="other", tracer_provider=TracerProvider())

    assert first is second
    assert first.settings.agent_name != "other"
    (warning,) = warnings(caplog)
    assert "called again with another agent_name, tracer_provider" in warning


def test_a_wrong_argument_raises_also_when_init_ran_before(
    receiver: Receiver, provider: TracerProvider
):
    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)

    with pytest.raises(agentpulse.SettingError, match="flush_interval is -1"):
        agentpulse.init(flush_interval=-1)


def test_a_provider_that_takes_no_processors_is_refused(receiver: Receiver):
    with pytest.raises(TypeError, match=r"tracer_provider is a .*NoOpTracerProvider"):
        agentpulse.init(endpoint=receiver.endpoint, tracer_provider=trace.NoOpTracerProvider())

    assert agentpulse.get_client() is None


def test_shutdown_takes_back_all_and_leaves_the_provider_of_others_alone(
    receiver: Receiver, provider: TracerProvider
):
    threads = set(threading.enumerate())
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    originals = vars(SyncAPIClient)["request"], vars(AsyncAPIClient)["request"]
    client = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    assert vars(SyncAPIClient)["request"] is not originals[0]
    assert vars(AsyncAPIClient)["request"] is not originals[1]
    make_call(provider)

    assert agentpulse.shutdown()
    make_call(provider)

    assert (vars(SyncAPIClient)["request"], vars(AsyncAPIClient)["request"]) == originals
    assert agentpulse.get_client() is None
    assert repr(client).endswith("shut down>")
    assert len(receiver.of_kind("llm_call")) == 1
    assert len(spans.get_finished_spans()) == 2
    assert len(provider._active_span_processor._span_processors) == 1
    assert agentpulse.stats() == client.stats()
    assert agentpulse.stats().accepted == 2  # the call and sdk_init
    assert agentpulse.shutdown()
    new = set(threading.enumerate()) - threads
    assert not [thread for thread in new if "agentpulse" in thread.name.lower()]


def test_init_works_again_after_shutdown(receiver: Receiver, provider: TracerProvider):
    first = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    make_call(provider)
    agentpulse.shutdown()
    second = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    make_call(provider)
    agentpulse.shutdown()

    assert first is not second
    assert len(receiver.of_kind("llm_call")) == 2
    assert len({event["id"] for event in receiver.events}) == len(receiver.events) == 4


def test_only_the_named_libraries_are_patched(receiver: Receiver, provider: TracerProvider):
    original = vars(SyncAPIClient)["request"]

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider, instrument=["anthropic"])
    assert vars(SyncAPIClient)["request"] is original
    agentpulse.shutdown()
    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider, instrument=["openai"])
    assert vars(SyncAPIClient)["request"] is not original


def test_without_auto_patch_nothing_is_patched_and_spans_are_still_sent(
    receiver: Receiver, provider: TracerProvider
):
    original = vars(SyncAPIClient)["request"]

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider, auto_patch=False)
    make_call(provider)

    assert vars(SyncAPIClient)["request"] is original
    assert agentpulse.flush()
    assert len(receiver.of_kind("llm_call")) == 1


async def every_function_does_nothing() -> None:
    assert agentpulse.flush()
    assert await agentpulse.aflush()
    assert agentpulse.stats() == agentpulse.Stats()
    assert agentpulse.shutdown()
    assert agentpulse.calculate_cost("gpt-4o", 1_000_000, 0) == pytest.approx(2.5)


@pytest.mark.anyio
async def test_before_init_every_function_works_and_does_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agentpulse.client._client", None)
    assert agentpulse.get_client() is None
    await every_function_does_nothing()


OFF = [
    pytest.param({"enabled": False}, {}, None, id="argument"),
    pytest.param({}, {"AGENTPULSE_ENABLED": "false"}, None, id="kill switch"),
    pytest.param({}, {"OTEL_SDK_DISABLED": "True"}, None, id="OpenTelemetry is off"),
    pytest.param(
        {"endpoint": None},
        {},
        "AgentPulse is off, because it has no API key: set AGENTPULSE_API_KEY",
        id="no key",
    ),
    pytest.param(
        {},
        {"AGENTPULSE_FLUSH_INTERVAL": "ten", "AGENTPULSE_DEBUG": "maybe"},
        "AgentPulse is off until this is corrected: AGENTPULSE_FLUSH_INTERVAL is 'ten'; expected",
        id="wrong variables",
    ),
    pytest.param(
        {"api_key": KEY, "endpoint": "https://pulse.example", "debug": True},
        {"https_proxy": "http://:no-port"},
        "AgentPulse is off until this is corrected: https_proxy is no address",
        id="a proxy that is no address",
    ),
    pytest.param(
        {"tracer_provider": None},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
        "AgentPulse could not start and is off: ValueError: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must",
        id="a wrong variable of OpenTelemetry",
    ),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("arguments", "variables", "warning"), OFF)
async def test_switched_off_it_patches_nothing_and_logs_why_once(
    arguments: dict[str, object],
    variables: dict[str, str],
    warning: str | None,
    receiver: Receiver,
    provider: TracerProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    original = vars(SyncAPIClient)["request"]
    threads = threading.active_count()
    everything = {"endpoint": receiver.endpoint, "tracer_provider": provider, **arguments}

    client = agentpulse.init(**everything)  # pyright: ignore[reportArgumentType]  # as a table
    make_call(provider)

    assert agentpulse.init() is client
    assert agentpulse.get_client() is client
    assert not client.is_on
    assert vars(SyncAPIClient)["request"] is original
    assert threading.active_count() == threads
    await every_function_does_nothing()
    agentpulse.init(**everything)  # pyright: ignore[reportArgumentType]  # as a table
    assert [text[: len(warning or "")] for text in warnings(caplog)] == (
        [warning] if warning else []
    )
    assert receiver.requests == 0
    assert logging.getLogger("agentpulse").handlers == []


@pytest.mark.anyio
async def test_aflush_leaves_the_event_loop_running(receiver: Receiver, provider: TracerProvider):
    receiver.pause = threading.Event()
    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    make_call(provider)

    flushing = asyncio.create_task(agentpulse.aflush())
    while receiver.requests == 0:  # noqa: ASYNC110  # the server is in a thread
        await asyncio.sleep(0.001)
    assert not flushing.done()  # the server hasn't answered, and the loop came this far
    receiver.pause.set()

    assert await flushing


def test_flush_is_false_when_not_all_was_accepted(receiver: Receiver, provider: TracerProvider):
    receiver.status = 400
    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    make_call(provider)

    assert not agentpulse.flush()
    stats = agentpulse.stats()
    assert stats.ended == stats.accepted + stats.queued + sum(stats.dropped.values())


def test_debug_writes_our_log_to_stderr_until_shutdown(
    receiver: Receiver, provider: TracerProvider, capsys: pytest.CaptureFixture[str]
):
    ours = logging.getLogger("agentpulse")
    before = ours.level, list(ours.handlers)

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider, debug=True)
    logging.getLogger("agentpulse.exporter").debug("a detail")
    agentpulse.shutdown()
    logging.getLogger("agentpulse.exporter").debug("another one")

    assert (ours.level, ours.handlers) == before
    assert "DEBUG agentpulse.exporter: a detail" in (printed := capsys.readouterr().err)
    assert "another one" not in printed


def test_the_key_is_in_no_log_when_the_server_refuses_it(
    receiver: Receiver, provider: TracerProvider, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    receiver.status = 403

    client = agentpulse.init(
        api_key=KEY, endpoint=receiver.endpoint, tracer_provider=provider, debug=True
    )
    make_call(provider)
    agentpulse.flush(timeout=2)
    agentpulse.shutdown()

    assert receiver.requests
    assert KEY not in caplog.text
    assert KEY not in repr(client) + repr(client.settings)


def test_the_first_init_of_a_program_replaces_what_was_started_for_it(receiver, caplog):
    before = agentpulse.init(endpoint=receiver.endpoint)
    before.is_automatic = True
    client = agentpulse.init(endpoint=receiver.endpoint, agent_name="mine")
    assert client is not before
    assert (client.is_on, client.settings.agent_name) == (True, "mine")
    assert agentpulse.init(agent_name="other") is client
    (logged,) = [record for record in caplog.records if "called again" in record.message]
    assert "agent_name" in logged.message


def test_an_init_that_asks_for_nothing_else_keeps_what_was_started_for_the_program(
    receiver, monkeypatch
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", receiver.endpoint)
    started = agentpulse.init()
    started.is_automatic = True
    assert agentpulse.init() is started
    assert started.is_on
