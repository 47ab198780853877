"""The metrics of agents and tools that a program decorates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from fakes.measured import Measured
from fakes.program import start
from fakes.receiver import Receiver
from opentelemetry import metrics as metrics_api
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import agentpulse
from agentpulse.demo.provider import FakeProvider

CALLS = "gen_ai.invoke_agent.inference_calls"
TOOLS = "gen_ai.invoke_agent.tool_calls"
EMBEDDED: dict[str, Any] = {"model": "text-embedding-3-small", "input": "x"}


@pytest.fixture
def measured() -> Iterator[Measured]:
    measured = Measured()
    metrics_api.set_meter_provider(measured.provider)
    yield measured
    measured.provider.shutdown()
    metrics_internal._METER_PROVIDER = None  # there is no public way back
    metrics_internal._METER_PROVIDER_SET_ONCE._done = False  # the same


@pytest.fixture(params=["recorded", "dropped by a sampler"])
def ask(
    request: Any, measured: Measured, strict_receiver: Receiver, provider: TracerProvider
) -> Iterator[Any]:
    """Asks a model, under AgentPulse."""
    options: dict[str, Any] = {"auto_patch": True, "instrument": ["openai"]}
    if request.param != "recorded":
        provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    start(strict_receiver, provider, **options)
    with FakeProvider() as fake:
        http = openai.DefaultHttpxClient(verify=False)
        client = openai.OpenAI(
            api_key="x", base_url=fake.openai_url, max_retries=0, http_client=http
        )
        with client:

            def ask(model: str = "gpt-4o") -> None:
                said: Any = [{"role": "user", "content": "x"}]
                client.chat.completions.create(model=model, messages=said)
                client.embeddings.create(**EMBEDDED)

            yield ask


def counted(measured: Measured) -> dict[str, tuple[float, float]]:
    """By agent: its calls of models and of tools."""
    told = measured()
    (model_unit, *calls), (tool_unit, *tools) = told[CALLS], told[TOOLS]
    assert (model_unit, tool_unit) == ("{inference_call}", "{tool_call}")
    names = [point.attributes["gen_ai.agent.name"] for point in calls]
    return {
        name: (called.sum, used.sum) for name, called, used in zip(names, calls, tools, strict=True)
    }


def test_an_agent_is_told_by_its_own_calls(ask: Any, measured: Measured) -> None:
    @agentpulse.tool
    def look() -> None:
        pass

    @agentpulse.tool
    def search(*, fail: bool = False) -> None:
        look()  # is called by the tool, and not by the agent
        ask()
        if fail:
            raise LookupError

    @agentpulse.agent("helper")
    def helper() -> None:
        ask()

    @agentpulse.agent("clerk")
    def clerk() -> None:
        ask()
        helper()
        search()
        with pytest.raises(LookupError):
            search(fail=True)
        ask()

    clerk()
    ask()
    look()

    assert counted(measured) == {"helper": (1, 0), "clerk": (4, 2)}
    told = measured()
    _, *tools = told["gen_ai.execute_tool.duration"]
    assert {
        (
            point.attributes["gen_ai.tool.name"].rpartition(".")[2],
            point.attributes.get("gen_ai.agent.name"),
            point.attributes.get("error.type"),
        ): point.count
        for point in tools
    } == {
        ("look", "clerk", None): 2,
        ("search", "clerk", None): 1,
        ("search", "clerk", "LookupError"): 1,
        ("look", None, None): 1,
    }
    _, *runs = told["gen_ai.invoke_agent.duration"]
    assert {point.attributes["gen_ai.agent.name"] for point in runs} == {"helper", "clerk"}


def test_calls_of_threads_tasks_and_generators_are_the_agents_too(
    ask: Any, measured: Measured
) -> None:
    @agentpulse.agent("threads")
    def threads() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: ask(), range(8)))

    @agentpulse.agent("tasks")
    async def tasks() -> None:
        async def later() -> None:
            ask()

        await asyncio.gather(later(), later())

    @agentpulse.agent("generator")
    def generator() -> Iterator[int]:
        ask()
        yield 1
        ask()

    threads()
    asyncio.run(tasks())
    for _ in generator():
        ask()  # is the caller's

    assert counted(measured) == {"threads": (8, 0), "tasks": (2, 0), "generator": (2, 0)}


def test_each_run_counts_for_itself(ask: Any, measured: Measured) -> None:
    @agentpulse.agent("clerk")
    def clerk(times: int) -> None:
        for _ in range(times):
            ask()

    clerk(0)
    clerk(3)
    (_, calls) = measured()[CALLS]
    assert (calls.count, calls.min, calls.max) == (2, 0, 3)
    assert calls.explicit_bounds == (1, 2, 4, 8, 16, 32, 64, 128)
