"""Runs every stack in every mode, in a world of instrumentations: the bill, and who reported it.

A program of its own, because some instrumentations leave their patches behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import pkgutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anthropic
import litellm
import openai
from fakes import stacks
from langchain_litellm import ChatLiteLLM
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import agentpulse
from agentpulse.demo.provider import FakeProvider
from agentpulse.server import LocalServer

Mode = Callable[[FakeProvider], Any]
SPOKEN = [{"role": "user", "content": stacks.QUESTION}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": SPOKEN}
STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
MESSAGE: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 9,
    "messages": SPOKEN,
    # A part of it is written to the cache, and a part read from there.
    "system": [{"type": "text", "text": "be brief " * 20, "cache_control": {"type": "ephemeral"}}],
}


OTHERS = {
    "official": (
        "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
        "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
    ),
    "openllmetry": (
        "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.anthropic:AnthropicInstrumentor",
        "opentelemetry.instrumentation.langchain:LangchainInstrumentor",
    ),
    "openinference": (
        "openinference.instrumentation.openai:OpenAIInstrumentor",
        "openinference.instrumentation.anthropic:AnthropicInstrumentor",
        "openinference.instrumentation.langchain:LangChainInstrumentor",
        "openinference.instrumentation.litellm:LiteLLMInstrumentor",
    ),
}
"""The instrumentors of somebody else that are on in a world."""


def other_instrumentations(world: str, tracers: TracerProvider) -> None:
    """Turns those of somebody else on."""
    for path in OTHERS.get(world, ()):
        pkgutil.resolve_name(path)().instrument(tracer_provider=tracers)


class Scopes(SpanProcessor):
    """Notes who makes spans."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_end(self, span: ReadableSpan) -> None:
        """Notes whose it is."""
        if span.instrumentation_scope:
            self.names.add(span.instrumentation_scope.name)


def run_openai(provider: FakeProvider, mode: str) -> None:
    given: Any = {"api_key": "x", "base_url": provider.openai_url, "max_retries": 0}
    if mode in ("sync", "stream"):
        create = openai.OpenAI(**given).chat.completions.create
        create(**CHAT) if mode == "sync" else list(create(**CHAT, **STREAM))
        return

    async def later() -> None:
        async with openai.AsyncOpenAI(**given) as client:
            create = client.chat.completions.create
            if mode == "async":
                await create(**CHAT)
            else:
                [chunk async for chunk in await create(**CHAT, **STREAM)]

    stacks.run(later())


def run_anthropic(provider: FakeProvider, mode: str) -> None:
    given: Any = {"api_key": "x", "base_url": provider.anthropic_url, "max_retries": 0}
    if mode in ("sync", "stream"):
        create = anthropic.Anthropic(**given).messages.create
        create(**MESSAGE) if mode == "sync" else list(create(**MESSAGE, stream=True))
        return

    async def later() -> None:
        async with anthropic.AsyncAnthropic(**given) as client:
            if mode == "async":
                await client.messages.create(**MESSAGE)
            else:
                [event async for event in await client.messages.create(**MESSAGE, stream=True)]

    stacks.run(later())


def run_litellm(provider: FakeProvider, mode: str, library: str) -> None:
    given: Any = {
        "openai": {"model": "openai/gpt-4o", "api_base": provider.openai_url, "messages": SPOKEN},
        "anthropic": {
            "model": "anthropic/claude-haiku-4-5",
            "api_base": provider.anthropic_url,
            "messages": [{"role": "system", "content": MESSAGE["system"]}, *SPOKEN],
        },
    }[library]
    given |= {"api_key": "x", "max_retries": 0}
    if mode in ("stream", "astream"):
        given |= STREAM
    if mode in ("sync", "stream"):
        answer = litellm.completion(**given)
        if mode == "stream":
            list(answer)
        return

    async def later() -> None:
        answer: Any = await litellm.acompletion(**given)
        if mode == "astream":
            [chunk async for chunk in answer]
        # LiteLLM reports the end in a task of its own.
        await asyncio.sleep(0.05)

    stacks.run(later())


LANGCHAIN = {"sync": "invoke", "async": "ainvoke", "stream": "stream", "astream": "astream"}


def run_langchain(provider: FakeProvider, mode: str, library: str) -> None:
    if library == "litellm":
        model: Any = ChatLiteLLM(
            model="openai/gpt-4o", api_base=provider.openai_url, api_key="x", max_retries=0
        )
        model.model_kwargs = {"stream_options": {"include_usage": True}} if "str" in mode else {}
    else:
        model = stacks.MODELS[library](provider)
    stacks.MODES[LANGCHAIN[mode]](model, stacks.QUESTION)


def run_langgraph(provider: FakeProvider, mode: str) -> None:
    graph = stacks.clerk(stacks.chat_openai(provider))
    stacks.MODES[LANGCHAIN[mode]](graph, stacks.asked())


STACKS: dict[str, Callable[[FakeProvider, str], None]] = {
    "openai": run_openai,
    "anthropic": run_anthropic,
    "litellm > openai": lambda provider, mode: run_litellm(provider, mode, "openai"),
    "litellm > anthropic": lambda provider, mode: run_litellm(provider, mode, "anthropic"),
    "langchain > openai": lambda provider, mode: run_langchain(provider, mode, "openai"),
    "langchain > anthropic": lambda provider, mode: run_langchain(provider, mode, "anthropic"),
    "langgraph": run_langgraph,
    "langchain > litellm": lambda provider, mode: run_langchain(provider, mode, "litellm"),
}


def price(charge: Any) -> float:
    """What the provider bills for a call."""
    cost = agentpulse.calculate_cost(
        charge.model,
        charge.input_tokens,
        charge.output_tokens,
        provider=charge.provider,
        cache_read_tokens=charge.cached_tokens,
        cache_write_tokens=charge.cache_write_tokens,
    )
    assert cost, charge
    return cost


def main(world: str) -> None:
    """Prints, for each stack in each mode, what was billed and what was recorded."""
    tracers = TracerProvider(shutdown_on_exit=False)
    scopes = Scopes()
    tracers.add_span_processor(scopes)
    if world == "native":
        # The anthropic client's own spans go to the global provider.
        trace.set_tracer_provider(tracers)
    billed: dict[str, Any] = {}
    with LocalServer() as server:
        world, _, late = world.partition(", ")
        if not late:
            other_instrumentations(world, tracers)
        agentpulse.init(endpoint=server.url, tracer_provider=tracers, flush_interval=0.2)
        if late:
            other_instrumentations(world, tracers)
        for stack, run in STACKS.items():
            for mode in LANGCHAIN:
                with FakeProvider() as provider, agentpulse.session(f"{stack}, {mode}"):
                    run(provider, mode)
                    bill = stacks.billed(provider, 2 if stack == "langgraph" else 1)
                billed[f"{stack}, {mode}"] = {"calls": len(bill), "cost": sum(map(price, bill))}
        settle(server, sum(case["calls"] for case in billed.values()))
        reported: dict[str, Any] = defaultdict(lambda: {"calls": 0, "cost": 0.0})
        for event in server.events():
            if event["kind"] == "llm_call" and not (event["session"] or "").startswith("marker"):
                case = reported[(event["session"] or "none:").rpartition(":")[0]]
                case["calls"] += 1
                case["cost"] += event["data"]["cost_usd"] or 0.0
        agentpulse.shutdown()
    sys.stdout.write(
        json.dumps({"billed": billed, "told": reported, "scopes": sorted(scopes.names)})
    )


def settle(server: LocalServer, calls: int) -> None:
    """Waits until all calls were recorded, and for what may come after them."""
    until = time.monotonic() + 20
    for _ in range(2):
        while time.monotonic() < until:
            agentpulse.flush()
            reported = [event for event in server.events() if event["kind"] == "llm_call"]
            if len(reported) >= calls:
                break
            time.sleep(0.05)
        # LiteLLM reports sync calls by threads, in the order of the calls: this one is the last.
        with agentpulse.session("marker"):
            litellm.completion("openai/marker", SPOKEN, mock_response="x")
        while time.monotonic() < until:
            agentpulse.flush()
            if any(event["data"].get("name") == "chat marker" for event in server.events()):
                break
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
