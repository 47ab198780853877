"""Log events and metrics of LangChain and LangGraph."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes.logs import Logs
from fakes.measured import Measured
from fakes.provider import FakeProvider, fails
from fakes.stacks import MODES, QUESTION, asked, chat_openai, clerk, search_mail
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.runnables import RunnableLambda
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"


@pytest.fixture
def reported(spans: Any, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(CONTENT, "EVENT_ONLY")
    instrument(tracer_provider=spans.provider, logger_provider=logs.provider)
    return logs


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_no_client_records_is_an_event(mode: str, reported: Logs, spans: Any):
    MODES[mode](FakeListChatModel(responses=["two mails"]), QUESTION)
    (event,) = reported.taken()
    (span,) = spans.finished()

    assert (event["name"], event["span"]) == (DETAILS, span.context.span_id)
    spoken = {
        name: event["attributes"].pop(f"gen_ai.{name}.messages") for name in ("input", "output")
    }
    assert spoken == {
        "input": [{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}],
        "output": [{"role": "assistant", "parts": [{"type": "text", "content": "two mails"}]}],
    }
    assert event["attributes"].keys() == span.attributes.keys()
    assert QUESTION not in span.to_json()


def test_a_call_of_a_graph_is_one_event_of_its_client_and_no_span_says_anything(
    reported: Logs, spans: Any, provider: FakeProvider
):
    MODES["invoke"](clerk(chat_openai(provider)), asked())
    events = reported.taken()
    ended = spans.finished()

    assert [event["name"] for event in events] == [DETAILS] * 2
    assert QUESTION in json.dumps(events)
    assert not [span.name for span in ended if QUESTION in span.to_json()]
    assert not [span.name for span in ended if "mails" in json.dumps(dict(span.attributes))]


def test_a_model_that_fails_has_both_events(reported: Logs, spans: Any):
    model = FakeListLLM(responses=[])
    with pytest.raises(IndexError):
        model.invoke(QUESTION)
    exception, details = reported.taken()

    assert (exception["name"], details["name"]) == (EXCEPTION, DETAILS)
    assert exception["attributes"]["exception.type"] == "IndexError"
    assert details["attributes"]["error.type"] == "IndexError"


@pytest.mark.parametrize("is_dropped", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_is_measured_by_its_own_calls(
    mode: str, is_dropped: bool, create_agent: Any, spans: Any, provider: FakeProvider
):
    measured = Measured()
    thinning = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    instrument(
        tracer_provider=thinning if is_dropped else spans.provider,
        meter_provider=measured.provider,
    )
    agent = create_agent(chat_openai(provider), [search_mail], name="clerk")
    chain = RunnableLambda(lambda given: given) | agent
    MODES[mode](chain, asked())
    reported = measured()

    (_, calls), (_, tools) = (
        reported[f"gen_ai.invoke_agent.{kind}"] for kind in ("inference_calls", "tool_calls")
    )
    assert dict(calls.attributes) == dict(tools.attributes) == {"gen_ai.agent.name": "clerk"}
    assert (calls.sum, tools.sum) == (2, 1)
    (_, duration) = reported["gen_ai.execute_tool.duration"]
    assert dict(duration.attributes) == {
        "gen_ai.agent.name": "clerk",
        "gen_ai.tool.name": "search_mail",
        "gen_ai.tool.type": "function",
    }
    assert reported["gen_ai.invoke_agent.duration"][1].count == 1
    assert reported["gen_ai.invoke_workflow.duration"][1].count == 1


def test_models_that_no_client_records_count_for_their_agent(create_agent: Any, spans: Any):
    measured = Measured()
    instrument(tracer_provider=spans.provider, meter_provider=measured.provider)
    agent = create_agent(FakeListChatModel(responses=["no"]), [], name="clerk")
    agent.invoke(asked())
    (_, calls) = measured()["gen_ai.invoke_agent.inference_calls"]
    assert calls.sum == 1


def test_a_call_that_fails_is_measured(spans: Any, provider: FakeProvider):
    measured = Measured()
    instrument(tracer_provider=spans.provider, meter_provider=measured.provider)
    provider.script(fails(500))
    with pytest.raises(Exception, match="500"):
        chat_openai(provider).invoke(QUESTION)
    (_, duration) = measured()["gen_ai.client.inference.duration"]
    assert duration.attributes["error.type"] == "server_error"
