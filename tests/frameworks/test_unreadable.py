"""Content that can't be read: the run is recorded all the same, without that content."""

from __future__ import annotations

import re
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from agentpulse_instrumentation._engine import patching
from fakes.stacks import QUESTION, open_runs
from langchain_core.language_models import FakeListChatModel
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
ARGUMENTS, RESULT = "agentpulse.args", "agentpulse.result"
TOOL_ARGUMENTS, TOOL_RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
NOT_READ = re.compile(r"AgentPulse could not read (content|the answer): LookupError in [\w.]+")


class Unreadable:
    """What has its own idea of its attributes."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            message = "what nobody may read"
            raise LookupError(message)
        return super().__getattribute__(name)


@pytest.fixture
def captured(spans: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    monkeypatch.setattr(patching, "strict", False)
    caplog.set_level("DEBUG", logger="agentpulse")
    instrument(tracer_provider=spans.provider, capture_messages=True)
    return spans


@pytest.fixture(autouse=True)
def only_the_kind_of_failure_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    (logged,) = caplog.get_records("call")
    assert NOT_READ.fullmatch(logged.getMessage())
    assert open_runs() == 0


def message() -> AIMessage:
    call: Any = {"name": "search", "args": {"query": Unreadable()}, "id": "call_1"}
    return AIMessage("two mails", tool_calls=[call])


def content_of(span: dict[str, Any]) -> set[str]:
    content = {INPUT, OUTPUT, ARGUMENTS, RESULT, TOOL_ARGUMENTS, TOOL_RESULT}
    return content & span["attributes"].keys()


def test_a_model_is_recorded_without_a_message_that_it_was_asked_with(captured: Any):
    FakeListChatModel(responses=["two mails"]).invoke([message()])
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("chat", {OUTPUT})


def test_a_model_is_recorded_without_a_message_that_it_answered(captured: Any):
    FakeMessagesListChatModel(responses=[message()]).invoke(QUESTION)
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("chat", {INPUT})


def test_a_model_is_recorded_without_figures_that_nobody_can_read(captured: Any):
    class Own(FakeListChatModel):
        def _generate(self, *_given: Any, **_more: Any) -> ChatResult:
            generation = ChatGeneration(message=AIMessage("two mails"))
            return ChatResult(generations=[generation], llm_output={"usage": Unreadable()})

    Own(responses=[]).invoke(QUESTION)
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("chat", {INPUT, OUTPUT})


def test_a_tool_is_recorded_without_its_argument(captured: Any):
    @tool
    def search(query: Any) -> str:
        """Finds mails."""
        return "two mails"

    search.invoke({"query": Unreadable()})
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("execute_tool search", {TOOL_RESULT})


def test_a_tool_is_recorded_without_its_result(captured: Any):
    @tool
    def search(query: str) -> Any:
        """Finds mails."""
        return Unreadable()

    search.invoke({"query": "mails"})
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("execute_tool search", {TOOL_ARGUMENTS})


def test_a_chain_is_recorded_without_its_input(captured: Any):
    RunnableLambda(lambda _asked: "two mails").invoke(Unreadable())
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("invoke_workflow", {RESULT})


def test_a_chain_is_recorded_without_its_result(captured: Any):
    RunnableLambda(lambda _asked: Unreadable()).invoke(QUESTION)
    (span,) = captured()
    assert (span["name"], content_of(span)) == ("invoke_workflow", {ARGUMENTS})
