"""Calls of models by LangChain: one span each, the client's own where that is instrumented."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agentpulse_instrumentation import instrument, uninstrument
from fakes.provider import FakeProvider, fails
from fakes.stacks import MODELS, MODES, QUESTION, billed, chat_openai, run
from fakes.trees import calls, tree
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListLLM
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from opentelemetry import trace


def usage(span: Any) -> tuple[int, int]:
    return (
        span.attributes["gen_ai.usage.input_tokens"],
        span.attributes["gen_ai.usage.output_tokens"],
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", MODELS)
def test_a_call_is_one_span_of_its_client(
    library: str, mode: str, recorded: Any, provider: FakeProvider
):
    model = MODELS[library](provider).with_config(run_name="count", tags=["nightly"])
    with trace.use_span(recorded.provider.get_tracer("user").start_span("user"), end_on_exit=True):
        MODES[mode](model, QUESTION)

    ended = recorded.finished()
    (call,) = calls(ended)
    (charge,) = billed(provider, 1)
    assert tree(ended) == [("user", [(call.name, [])])]
    assert call.instrumentation_scope.name == f"agentpulse_instrumentation.{library}"
    assert usage(call) == (charge.input_tokens, charge.output_tokens)
    assert call.attributes["agentpulse.run.name"] == "count"
    assert call.attributes["agentpulse.run.tags"] == ("nightly",)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", MODELS)
def test_a_call_in_a_chain_belongs_to_it(
    library: str, mode: str, recorded: Any, provider: FakeProvider
):
    chain = ChatPromptTemplate.from_template("{said}") | MODELS[library](provider)
    MODES[mode](chain, {"said": QUESTION})

    ended = recorded.finished()
    (call,) = calls(ended)
    expected = [("invoke_workflow", [("ChatPromptTemplate", []), (call.name, [])])]
    assert tree(ended) == expected


@pytest.mark.parametrize("library", MODELS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_call_is_one_failed_span(
    library: str, stream: bool, recorded: Any, provider: FakeProvider
):
    provider.script(fails(500))
    model = MODELS[library](provider)
    with pytest.raises(Exception, match="500"):
        list(model.stream(QUESTION)) if stream else model.invoke(QUESTION)

    (call,) = recorded.finished()
    assert call.attributes["http.response.status_code"] == 500
    assert call.status.description is None


def test_what_the_caller_does_between_chunks_is_not_part_of_the_call(
    recorded: Any, provider: FakeProvider
):
    model = chat_openai(provider)
    with recorded.provider.get_tracer("user").start_as_current_span("user"):
        for number, _ in enumerate(model.stream(QUESTION)):
            if number == 0:
                model.invoke("another")

    ended = recorded.finished()
    assert tree(ended) == [("user", [("chat gpt-4o", []), ("chat gpt-4o", [])])]
    assert len(billed(provider, 2)) == 2


def test_a_stream_that_is_left_early_is_no_failure(recorded: Any, provider: FakeProvider):
    stream = chat_openai(provider).stream(QUESTION)
    next(stream)
    stream.close()
    chat_openai(provider).invoke("another")

    left, other = recorded.finished()
    assert "error.type" not in left.attributes
    assert left.attributes["agentpulse.usage.estimated"] is True
    assert "agentpulse.usage.estimated" not in other.attributes


def test_concurrent_calls_keep_their_places(recorded: Any, provider: FakeProvider):
    model = chat_openai(provider)
    tracer = recorded.provider.get_tracer("user")

    async def one(number: int) -> None:
        with tracer.start_as_current_span(f"user {number}"):
            await model.ainvoke(QUESTION)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(100)))

    run(all_of_them())

    reported = tree(recorded.finished())
    assert sorted(name for name, _ in reported) == sorted(f"user {number}" for number in range(100))
    assert [inside for _, inside in reported] == [[("chat gpt-4o", [])]] * 100


class Known(BaseChatModel):
    """A model whose client nobody instruments, with every figure that LangChain knows."""

    model: str = "claude-haiku-4-5"
    temperature: float = 0.5
    asked: int = 0

    @property
    def _llm_type(self) -> str:
        return "known"

    def _get_ls_params(self, stop: Any = None, **_kwargs: Any) -> Any:
        reported = {"ls_provider": "amazon_bedrock", "ls_model_name": self.model}
        return {**reported, "ls_model_type": "chat", "ls_temperature": 0.5, "ls_max_tokens": 64}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        self.asked += 1
        usage: Any = {
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "input_token_details": {
                "cache_read": 30,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 10,
                "ephemeral_1h_input_tokens": 5,
            },
            "output_token_details": {"reasoning": 7},
        }
        spoken = {
            "model_name": "claude-haiku-4-5-20251001",
            "stop_reason": "end_turn",
            "id": "msg_9",
        }
        message = AIMessage("two", usage_metadata=usage, response_metadata=spoken)
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_a_call_that_no_client_records_is_a_span_by_itself(recorded: Any):
    with recorded.provider.get_tracer("user").start_as_current_span("user") as user:
        Known().invoke(QUESTION)

    call, _ = recorded.finished()
    assert (call.name, call.kind.name) == ("chat claude-haiku-4-5", "CLIENT")
    assert call.parent.span_id == user.get_span_context().span_id
    assert dict(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": "claude-haiku-4-5",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.response.model": "claude-haiku-4-5-20251001",
        "gen_ai.response.id": "msg_9",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_write.input_tokens": 15,
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 10,
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 7,
    }


class Around(Known):
    """A model that is made of another one."""

    inner: Any = None

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        answer = self.inner.invoke(messages)
        return ChatResult(generations=[ChatGeneration(message=answer)])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_model_made_of_another_is_one_call(asynchronous: bool, recorded: Any):
    model = Around(inner=Known())
    run(model.ainvoke(QUESTION)) if asynchronous else model.invoke(QUESTION)

    assert tree(recorded.finished()) == [("chat claude-haiku-4-5", [])]


class Broken(Known):
    def _generate(self, *_args: Any, **_kwargs: Any) -> Any:
        raise ValueError(QUESTION)


def test_a_failure_that_no_client_records_has_its_type_alone(recorded: Any):
    with pytest.raises(ValueError, match=QUESTION):
        Broken().invoke(QUESTION)

    (call,) = recorded()
    assert call["status"] == "ERROR"
    assert call["attributes"]["error.type"] == "ValueError"
    assert QUESTION not in str(call)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_of_the_cache_is_no_call(
    asynchronous: bool, recorded: Any, provider: FakeProvider
):
    for model in (chat_openai(provider, cache=InMemoryCache()), Known(cache=InMemoryCache())):
        for _ in range(2):
            run(model.ainvoke(QUESTION)) if asynchronous else model.invoke(QUESTION)

    first, again, known, known_again = recorded.finished()
    assert len(billed(provider, 1)) == 1
    assert [
        ("agentpulse.response.answered_by" in span.attributes) for span in (first, again, known)
    ] == [
        False,
        True,
        False,
    ]
    for span in (again, known_again):
        assert not [name for name in span.attributes if ".usage." in name]


def test_a_model_that_completes_text_is_a_call_too(recorded: Any):
    FakeListLLM(responses=["two"]).generate([QUESTION, "another"])

    first, second = recorded()
    assert first["attributes"]["gen_ai.operation.name"] == "text_completion"
    # Of this model LangChain doesn't report whose it is.
    assert first["attributes"]["gen_ai.provider.name"] == "langchain"
    assert second["name"] == first["name"]


def test_with_messages_captured_they_are_on_the_span(spans: Any):
    uninstrument()
    instrument(tracer_provider=spans.provider, capture_messages=True)
    Known().bind(tools=[{"type": "function", "function": {"name": "search"}}]).invoke(
        [("system", "be brief"), ("user", [{"type": "text", "text": QUESTION}])]
    )

    (call,) = spans()
    attributes = call["attributes"]
    assert attributes["gen_ai.input.messages"] == (
        '[{"role":"system","parts":[{"type":"text","content":"be brief"}]},'
        f'{{"role":"user","parts":[{{"type":"text","content":"{QUESTION}"}}]}}]'
    )
    assert attributes["gen_ai.output.messages"] == (
        '[{"role":"assistant","parts":[{"type":"text","content":"two"}]}]'
    )
    assert attributes["gen_ai.tool.definitions"] == '[{"type":"function","name":"search"}]'
