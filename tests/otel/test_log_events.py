"""Log events of programs under AgentPulse, and where content goes there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from agentpulse_instrumentation import uninstrument
from fakes import processes
from fakes.collector import Collector
from fakes.logs import Logs
from fakes.program import Init
from fakes.receiver import Receiver
from openai import DefaultHttpxClient, OpenAI
from opentelemetry._logs import set_logger_provider

from agentpulse.demo.provider import FakeProvider

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DETAILS = "gen_ai.client.inference.operation.details"
CALL = """
import sys, openai
client = openai.OpenAI(api_key="x", base_url=sys.argv[1])
said = [{"role": "user", "content": "canary"}]
for _ in client.chat.completions.create(model="gpt-4o", messages=said, stream=True): pass
"""
INSTRUMENT = (str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable)
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "canary"}]}]


def ran(program: str, receiver: Receiver, **variables: str) -> str:
    """What a program says that is run under opentelemetry-instrument."""
    with FakeProvider() as provider:
        environ = {**os.environ, "AGENTPULSE_ENDPOINT": receiver.url, **variables}
        command = [*INSTRUMENT, "-c", program, provider.openai_url]
        done = processes.run(command, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_events_go_where_opentelemetry_is_told_to_send_logs() -> None:
    with Receiver() as receiver, Collector() as collector:
        variables = {
            CONTENT: "EVENT_ONLY",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        }
        ran(CALL, receiver, **variables)
        (event,) = collector.records

        assert event["eventName"] == DETAILS
        assert event["severityNumber"] == "SEVERITY_NUMBER_DEBUG"
        assert event["attributes"]["gen_ai.input.messages"] == INPUT
        assert event["attributes"]["gen_ai.usage.output_tokens"] > 0
        (call,) = (each for each in receiver.events if each["kind"] == "llm_call")
        assert "canary" not in json.dumps(receiver.events)
        assert call["data"]["name"] == "chat gpt-4o"


def test_events_are_printed_where_logs_are() -> None:
    with Receiver() as receiver:
        variables = {
            "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true",
            "OTEL_LOGS_EXPORTER": "console",
        }
        printed = ran(CALL, receiver, **variables)
    assert printed.count(f'"event_name": "{DETAILS}"') == 1
    assert "canary" not in printed


@pytest.fixture
def program(started: Init, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls a model under `agentpulse.init` with these options and this mode of content."""

    def run(mode: str, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        monkeypatch.setenv(CONTENT, mode)
        set_logger_provider(logs.provider)
        events = started(auto_patch=True, instrument=["openai"], **options)
        with FakeProvider() as provider:
            http = DefaultHttpxClient(verify=False)
            with OpenAI(api_key="x", base_url=provider.openai_url, http_client=http) as client:
                said: Any = [{"role": "user", "content": "canary"}]
                client.chat.completions.create(model="gpt-4o", messages=said)
        return [each for each in events() if each["kind"] == "llm_call"], logs.taken()

    yield run
    uninstrument()


@pytest.mark.parametrize(
    ("mode", "options", "is_sent", "on_event"),
    [
        ("EVENT_ONLY", {}, False, True),
        ("SPAN_AND_EVENT", {}, True, True),
        ("SPAN_AND_EVENT", {"capture_messages": False}, False, None),
        ("EVENT_ONLY", {"capture_messages": True}, True, None),
        ("SPAN_ONLY", {}, True, None),
    ],
)
def test_init_follows_the_standard_variable_unless_it_is_told_otherwise(
    mode: str, options: dict[str, Any], is_sent: bool, on_event: bool | None, program: Any
) -> None:
    sent, emitted = program(mode, **options)

    assert ("canary" in json.dumps(sent)) is is_sent
    assert len(emitted) == (0 if on_event is None else 1)
    for event in emitted:
        assert event["attributes"]["gen_ai.input.messages"] == INPUT


def test_redaction_is_of_what_we_send_and_not_of_what_a_program_sends_itself(program: Any) -> None:
    sent, emitted = program("SPAN_AND_EVENT", redact=lambda text: text.replace("canary", "x"))
    assert "canary" not in json.dumps(sent)
    assert emitted[0]["attributes"]["gen_ai.input.messages"] == INPUT


def test_a_mode_that_there_is_not_is_said_once_and_captures_nothing(
    program: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent, emitted = program("everything")
    assert "canary" not in json.dumps(sent)
    assert emitted == []
    assert caplog.text.count(f"{CONTENT} is 'everything'") == 1
    assert "NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT" in caplog.text
