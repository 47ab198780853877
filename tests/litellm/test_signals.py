"""Log events and metrics of LiteLLM's calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes import lite
from fakes.logs import Logs
from fakes.measured import Measured
from fakes.provider import FakeProvider, fails
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

litellm = lite.imported()

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"
TALK = [{"role": "user", "content": "canary"}]
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "canary"}]}]


def sync(given: Any) -> None:
    litellm.completion(**given, messages=TALK)


def stream(given: Any) -> None:
    list(litellm.completion(**given, messages=TALK, stream=True))


def later(given: Any) -> None:
    asyncio.run(litellm.acompletion(**given, messages=TALK))


WAYS: dict[str, Callable[[Any], None]] = {"sync": sync, "stream": stream, "async": later}


class Reported:
    """The events of a test's calls, once all of them were recorded, and their spans."""

    def __init__(self, logs: Logs, spans: Any) -> None:
        self._logs, self._spans = logs, spans

    def __call__(self) -> tuple[list[dict[str, Any]], list[Any]]:
        ended = self._spans.finished()
        events = self._logs.taken()
        return [e for e in events if e["attributes"].get("gen_ai.request.model") != "marker"], ended


@pytest.fixture
def reported(recorded: Any, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Reported:
    monkeypatch.setenv(CONTENT, "EVENT_ONLY")
    return Reported(logs, recorded(capture_messages=None, logger_provider=logs.provider))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_a_call_is_one_event_whoever_records_it(
    library: str, way: str, at: Any, reported: Reported
) -> None:
    WAYS[way](at[library])
    (event,), (span,) = reported()

    assert (event["name"], event["span"]) == (DETAILS, span.context.span_id)
    assert event["attributes"].pop("gen_ai.input.messages") == INPUT
    assert event["attributes"].pop("gen_ai.output.messages")
    assert event["attributes"].keys() == span.attributes.keys()
    assert "canary" not in span.to_json()


@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_a_failed_call_has_both_events(
    library: str, at: Any, reported: Reported, provider: FakeProvider
) -> None:
    provider.script(fails(400, "invalid_request_error"))
    with pytest.raises(litellm.BadRequestError):
        sync(at[library])
    events, (span,) = reported()

    assert [event["name"] for event in events] == [EXCEPTION, DETAILS]
    assert "This is a fake" in events[0]["attributes"]["exception.message"]
    assert "This is a fake" not in span.to_json()


def test_what_is_kept_from_litellms_callbacks_is_kept_from_events(
    at: Any, reported: Reported, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    sync(at["anthropic"])
    provider.script(fails(400, "invalid_request_error"))
    with pytest.raises(litellm.BadRequestError):
        sync(at["anthropic"])
    events, _ = reported()

    assert len(events) == 3
    assert "canary" not in json.dumps(events)
    assert "This is a fake" not in json.dumps(events)


@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_what_a_sampler_drops_is_measured(library: str, at: Any, spans: Any) -> None:
    measured = Measured()
    thinning = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    instrument(tracer_provider=thinning, meter_provider=measured.provider)
    later(at[library])
    (_, used) = measured()["gen_ai.client.inference.usage.output_tokens"]
    assert used.value > 0
