"""However a run ends, and whatever is asked inside it: each call is recorded once, none is kept."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from contextlib import aclosing, suppress
from typing import Any

import langchain_core.runnables.config as configs
import openai
import pytest
from agentpulse_instrumentation.langchain._runs import MOST_ORPHANS
from fakes.provider import FakeProvider, answers
from fakes.stacks import QUESTION, asked, chat_openai, clerk, open_runs, run
from fakes.trees import calls
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda

USAGE: Any = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


class Own(BaseChatModel):
    """A model with a client that nobody instruments, which may ask another model first."""

    answer_id: str = ""
    guard: Any = None
    waits: bool = False

    @property
    def _llm_type(self) -> str:
        return "own"

    def _get_ls_params(self, **_given: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4.1", "ls_model_type": "chat"}

    def _generate(self, *_given: Any, **_more: Any) -> ChatResult:
        if self.guard is not None:
            self.guard()
        reported = {"model_name": "gpt-4.1", **({"id": self.answer_id} if self.answer_id else {})}
        message = AIMessage("hi", usage_metadata=USAGE, response_metadata=reported)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, *given: Any, **more: Any) -> ChatResult:
        if self.waits:
            await asyncio.sleep(60)
        return self._generate(*given, **more)


def named(spans: list[Any]) -> list[str]:
    return sorted(span.name for span in calls(spans))


def ask(provider: FakeProvider, model: str) -> None:
    with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])


def test_a_call_whose_task_is_cancelled_is_recorded(recorded: Any):
    async def cancelled(steps: int) -> None:
        task = asyncio.create_task(Own(waits=True).ainvoke(QUESTION))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for steps in range(1, 12):
        run(cancelled(steps))

    ended = recorded.finished()
    assert {span.attributes["error.type"] for span in ended} == {"CancelledError"}
    assert len(ended) >= 5
    assert open_runs() == 0


def test_what_is_asked_after_a_time_out_is_not_part_of_it(recorded: Any, provider: FakeProvider):
    slow = Own(waits=True).with_config(
        run_name="slow", tags=["slow"], metadata={"thread_id": "of the slow one"}
    )

    async def late() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await slow.ainvoke(QUESTION)
        async with openai.AsyncOpenAI(api_key="x", base_url=provider.openai_url) as client:
            await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "x"}]
            )

    run(late())
    timed_out, direct = recorded.finished()
    assert timed_out.attributes["gen_ai.conversation.id"] == "of the slow one"
    assert "gen_ai.conversation.id" not in direct.attributes
    assert "agentpulse.run.name" not in direct.attributes


@pytest.mark.parametrize("streams", ["astream", "astream_events"])
def test_graphs_that_are_left_keep_no_runs(streams: str, recorded: Any, provider: FakeProvider):
    graph = clerk(chat_openai(provider))

    async def left() -> None:
        more = {"version": "v2"} if streams == "astream_events" else {}
        async with aclosing(getattr(graph, streams)(asked(), **more)) as events:
            # Of a graph that is left before it has begun, LangGraph never reports the end.
            for _ in range(1 if streams == "astream" else 5):
                await anext(events)

    for _ in range(10):
        run(left())
    assert open_runs() == 0
    assert "invoke_workflow" in {span.name for span in recorded.finished()}


def test_of_models_that_never_end_a_few_are_known(recorded: Any):
    def ask(text: str, config: Any) -> str:
        manager = CallbackManager.configure(inheritable_callbacks=config["callbacks"])
        manager.on_chat_model_start({"name": "mine"}, [[HumanMessage(text)]])
        return text

    chain = RunnableLambda(ask)
    for _ in range(MOST_ORPHANS + 50):
        chain.invoke(QUESTION)
    assert open_runs() == MOST_ORPHANS


def test_a_model_that_asks_another_one_first_is_a_call_of_its_own(
    recorded: Any, provider: FakeProvider
):
    Own(guard=lambda: ask(provider, "gpt-4o-mini")).invoke(QUESTION)
    assert named(recorded.finished()) == ["chat gpt-4.1", "chat gpt-4o-mini"]


def test_a_model_whose_client_recorded_one_call_is_asked_for_the_next(
    recorded: Any, provider: FakeProvider
):
    Own(guard=lambda: ask(provider, "gpt-4.1")).invoke(QUESTION)
    (by_client,) = calls(recorded.finished())
    Own().invoke(QUESTION)
    (by_itself,) = calls(recorded.finished())
    assert by_client.instrumentation_scope.name.endswith(".openai")
    assert by_itself.instrumentation_scope.name.endswith(".langchain")
    assert by_itself.attributes["gen_ai.usage.output_tokens"] == 5


def test_a_server_that_always_gives_one_id_is_asked_each_time(recorded: Any):
    model = Own(answer_id="chatcmpl-123")
    for _ in range(3):
        model.invoke(QUESTION)
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in recorded.finished()] == [
        10
    ] * 3


@pytest.mark.parametrize("answer_id", ["", "msg-of-the-server"])
def test_only_the_answer_of_a_cache_is_one_of_a_cache(answer_id: str, recorded: Any):
    model = Own(cache=InMemoryCache(), answer_id=answer_id)
    for question in ("a", "a", "b"):
        model.invoke(question)
    answered_by = [
        span.attributes.get("agentpulse.response.answered_by") for span in recorded.finished()
    ]
    assert answered_by == [None, "cache", None]


def test_what_a_program_sends_to_other_processes_can_be_sent(recorded: Any):
    def pickled(_: int, config: Any) -> Any:
        return pickle.loads(pickle.dumps(config))  # its own bytes

    config = RunnableLambda(pickled).invoke(1)
    assert "agentpulse" not in repr(config).lower()
    assert recorded.finished()


def test_what_is_patched_looks_as_it_was(recorded: Any):
    patched = configs._set_config_context
    assert patched.__module__ == configs.__name__
    assert [*inspect.signature(patched).parameters] == ["config"]
    assert inspect.iscoroutinefunction(BaseChatModel.agenerate)
    assert "messages" in inspect.signature(BaseChatModel.agenerate).parameters
    assert recorded.finished() == []


def test_an_answer_that_reports_an_error_is_an_error(recorded: Any):
    class Failing(Own):
        def _generate(self, *given: Any, **more: Any) -> ChatResult:
            result = super()._generate(*given, **more)
            error = {"code": "overloaded", "message": "canary-12"}
            result.generations[0].generation_info = {"finish_reason": "error", "error": error}
            return result

    assert Failing().invoke(QUESTION).content == "hi"
    (span,) = recorded.finished()
    assert (span.status.status_code.name, span.status.description) == ("ERROR", None)
    assert span.attributes["error.type"] == "overloaded"
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert "canary-12" not in span.to_json()


def test_an_error_with_status_200_is_that_of_the_client(provider: FakeProvider, recorded: Any):
    provider.script(answers({"error": {"code": 400, "type": "invalid_request_error"}}))
    with suppress(Exception):
        chat_openai(provider).invoke(QUESTION)
    (call,) = calls(recorded.finished())
    assert call.attributes["error.type"] == "invalid_request_error"
