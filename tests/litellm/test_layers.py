"""Where the spans of LiteLLM's calls belong, and which layer reports a call."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest
from agentpulse_instrumentation import INSTRUMENTORS
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.nesting import Layer
from fakes import lite
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation

litellm = lite.imported()

HELLO = [{"role": "user", "content": "What is new?"}]
CALLS = 200


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_two_hundred_calls_at_once_are_a_span_each_under_their_own_parent(
    api: str, at: Any, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    tracer = spans.provider.get_tracer("program")

    async def step(number: int) -> None:
        with tracer.start_as_current_span(f"step {number}"):
            await litellm.acompletion(
                **at[api], messages=[{"role": "user", "content": "x" * 4 * number}]
            )

    async def all_steps() -> None:
        await asyncio.gather(*map(step, range(CALLS)))

    asyncio.run(all_steps())
    found = spans.finished()
    steps = {span.context.span_id: span for span in found if span.name.startswith("step")}
    calls = [span for span in found if span.kind.name == "CLIENT"]
    assert len(calls) == len(steps) == len({call.parent.span_id for call in calls}) == CALLS
    assert {call.instrumentation_scope.name.rpartition(".")[2] for call in calls} == {
        {"openai": "openai", "anthropic": "litellm"}[api]
    }
    for call in calls:
        step_span = steps[call.parent.span_id]
        assert call.context.trace_id == step_span.context.trace_id
    tokens = [call.attributes["gen_ai.usage.input_tokens"] for call in calls]
    assert sorted(tokens) == sorted(charge.input_tokens for charge in provider.bill)


def test_calls_of_threads_are_a_span_each(at: Any, recorded: Any) -> None:
    spans = recorded()

    def call(number: int) -> None:
        api = ("openai", "anthropic")[number % 2]
        stream = number % 4 > 1
        result = litellm.completion(**at[api], messages=HELLO, stream=stream)
        list(result if stream else ())

    # LiteLLM leaves the ends of streams unread. Where the garbage collector closes one while
    # httpcore holds the lock of its pool, that waits for itself.
    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(call, range(40)))
    finally:
        gc.enable()
    found = spans()
    assert sorted(span["by"] for span in found) == ["litellm"] * 20 + ["openai"] * 20


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_direct_calls_beside_a_call_of_litellm_are_their_own(
    stream: bool, at: Any, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    mine = openai.OpenAI(api_key="x", base_url=provider.openai_url)
    same = anthropic.Anthropic(api_key="x", base_url=provider.url)
    result = litellm.completion(**at["anthropic"], messages=HELLO, stream=stream)
    mine.chat.completions.create(model="gpt-4o", messages=HELLO)
    same.messages.create(model="claude-haiku-4-5", messages=HELLO, max_tokens=9)
    list(result if stream else ())
    litellm.completion(**at["openai"], messages=HELLO)
    mine.chat.completions.create(model="gpt-4o", messages=HELLO)
    by = sorted(span["by"] for span in spans())
    assert by == ["anthropic", "litellm", "openai", "openai", "openai"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_layer_above_gives_its_facts_and_makes_no_span(
    api: str, asynchronous: bool, at: Any, recorded: Any
) -> None:
    spans = recorded()
    tracer = spans.provider.get_tracer("chain")
    parent = tracer.start_span("chain")
    layer = Layer(get_current(), parent, {"chain.name": "mail"}, operation="chat")

    async def acall() -> None:
        await litellm.acompletion(**at[api], messages=HELLO)

    nesting.enter(layer)
    try:
        if asynchronous:
            asyncio.run(acall())
        else:
            litellm.completion(**at[api], messages=HELLO)
        # Known as soon as the call was made, whenever LiteLLM reports it.
        assert layer.is_recorded
    finally:
        nesting.leave(layer)
    parent.end()
    call, _ = sorted(spans.finished(), key=lambda span: span.kind.name)
    assert call.attributes["chain.name"] == "mail"
    assert call.parent.span_id == parent.get_span_context().span_id


def test_without_the_instrumentor_of_the_client_litellm_records_it(at: Any, recorded: Any) -> None:
    spans = recorded()
    INSTRUMENTORS["openai"]().uninstrument()
    litellm.completion(**at["openai"], messages=HELLO)
    asyncio.run(litellm.aembedding(**{**at["openai"], "model": "openai/e-3"}, input=["x"]))
    found = spans()
    assert [(span["by"], span["name"]) for span in found] == [
        ("litellm", "chat gpt-4o"),
        ("litellm", "embeddings e-3"),
    ]
    assert found[0]["attributes"]["gen_ai.usage.input_tokens"] == 11


def test_the_client_of_a_proxy_is_seen_as_what_it_is(provider: Any, recorded: Any) -> None:
    spans = recorded()
    client = openai.OpenAI(api_key="x", base_url=provider.openai_url)
    client.chat.completions.create(model="claude-haiku-4-5", messages=HELLO)
    (span,) = spans()
    assert (span["by"], span["name"]) == ("openai", "chat claude-haiku-4-5")


def test_suppressed_calls_have_no_span(at: Any, recorded: Any) -> None:
    spans = recorded()
    with suppress_instrumentation():
        litellm.completion(**at["anthropic"], messages=HELLO)
    assert spans() == []


def test_the_last_call_of_a_loop_is_recorded_before_the_loop_ends(at: Any, recorded: Any) -> None:
    spans = recorded()

    async def call() -> list[Any]:
        await litellm.acompletion(**at["anthropic"], messages=HELLO)
        return spans.spans.finished()

    (span,) = asyncio.run(call())
    assert span.name == "chat claude-haiku-4-5"
