"""Many calls at once: each is one event under its own parent, and the sums are the provider's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import anthropic
import openai
import pytest
from fakes.pipe import becomes_true
from fakes.provider import FakeProvider
from opentelemetry.sdk.trace import TracerProvider

import agentpulse
from agentpulse.server import LocalServer

THREADS, CALLS_OF_A_THREAD = 8, 12
TASKS = 200
# The clients give a connection 5 seconds, which is not much for two hundred at once.
PATIENT: dict[str, Any] = {"api_key": "x", "max_retries": 0, "timeout": 120}


@dataclass
class Recorded:
    """A program under AgentPulse, with what it knows of its own calls."""

    provider: FakeProvider
    server: LocalServer
    tracers: TracerProvider = field(default_factory=lambda: TracerProvider(shutdown_on_exit=False))
    parents: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Trace and span that was current for a call, by the id of its answer."""

    def parent(self) -> Any:
        return self.tracers.get_tracer("program").start_as_current_span("step")

    def made(self, answer_id: str, parent: Any) -> None:
        context = parent.get_span_context()
        self.parents[answer_id] = f"{context.trace_id:032x}", f"{context.span_id:016x}"

    def check(self, calls: int) -> None:
        assert agentpulse.shutdown(timeout=60)
        stats = agentpulse.stats()
        events = self.server.events("llm_call")

        assert len(self.parents) == len(events) == calls
        assert {
            event["data"]["response_id"]: (event["trace_id"], event["parent_span_id"])
            for event in events
        } == self.parents
        assert len({event["span_id"] for event in events}) == calls
        assert Counter(figures(event["data"]) for event in events) == self.billed(calls)
        # The spans around the calls, and the event that reports the start.
        begun = len(set(self.parents.values())) + 1
        assert (stats.ended, stats.accepted, stats.queued) == (calls + begun, calls + begun, 0)
        assert stats.dropped == {}

    def billed(self, calls: int) -> Counter[tuple[Any, ...]]:
        # A call is billed after its last byte was sent, which its caller may have read before.
        assert becomes_true(lambda: len(self.provider.bill) >= calls)
        return Counter(
            (c.provider, c.model, c.input_tokens, c.output_tokens, c.cached_tokens)
            for c in self.provider.bill
        )


def figures(data: dict[str, Any]) -> tuple[Any, ...]:
    cached = data["cache_read_tokens"] or 0
    spent = data["input_tokens"], data["output_tokens"]
    return data["provider"], data["model"], *spent, cached


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with FakeProvider() as provider, LocalServer() as server:
        recorded = Recorded(provider, server)
        agentpulse.init(
            api_key="ap_0123456789abcdef",
            endpoint=server.url,
            flush_interval=0.1,
            # A span of the program's own is recorded as a parent only where it is recorded itself.
            export_all_spans=True,
            tracer_provider=recorded.tracers,
        )
        yield recorded
        agentpulse.shutdown(timeout=0)
        recorded.tracers.shutdown()


def hello(number: int) -> list[Any]:
    """Each call says something of another length, so that one's tokens aren't another's."""
    return [{"role": "user", "content": "x" * (number * 4)}]


def chat(number: int, *, stream: bool) -> dict[str, Any]:
    body = {"model": ("gpt-4o", "gpt-4o-mini")[number % 2], "messages": hello(number)}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return {**body, **(streamed if stream else {})}


def message(number: int, *, stream: bool) -> dict[str, Any]:
    given = {"stream": True} if stream else {}
    return {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": hello(number), **given}


def test_calls_of_eight_threads_are_each_recorded_once(recorded: Recorded):
    together = Barrier(THREADS)

    def call(one: openai.OpenAI, other: anthropic.Anthropic, number: int) -> str:
        if number % 4 == 0:
            return one.chat.completions.create(**chat(number, stream=False)).id
        if number % 4 == 1:
            first, *_ = one.chat.completions.create(**chat(number, stream=True))
            return first.id
        if number % 4 == 2:
            return other.messages.create(**message(number, stream=False)).id
        first, *_ = other.messages.create(**message(number, stream=True))
        return first.message.id

    def run(make: Callable[[int], str], thread: int) -> None:
        together.wait(60)
        first = thread * CALLS_OF_A_THREAD
        for number in range(first, first + CALLS_OF_A_THREAD, 2):
            with recorded.parent() as parent:
                recorded.made(make(number), parent)
                recorded.made(make(number + 1), parent)

    url, other_url = recorded.provider.openai_url, recorded.provider.anthropic_url
    with (
        openai.OpenAI(base_url=url, **PATIENT) as one,
        anthropic.Anthropic(base_url=other_url, **PATIENT) as other,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        done = [
            pool.submit(run, lambda number: call(one, other, number), thread)
            for thread in range(THREADS)
        ]
        for thread in done:
            thread.result()

    recorded.check(THREADS * CALLS_OF_A_THREAD)


def test_calls_of_two_hundred_tasks_are_each_recorded_once(recorded: Recorded):
    async def call(one: Any, other: Any, number: int) -> str:
        if number % 4 == 0:
            return (await one.chat.completions.create(**chat(number, stream=False))).id
        if number % 4 == 1:
            chunks = await one.chat.completions.create(**chat(number, stream=True))
            first, *_ = [chunk async for chunk in chunks]
            return first.id
        if number % 4 == 2:
            return (await other.messages.create(**message(number, stream=False))).id
        events = await other.messages.create(**message(number, stream=True))
        first, *_ = [event async for event in events]
        return first.message.id

    async def run(one: Any, other: Any, number: int) -> None:
        with recorded.parent() as parent:
            recorded.made(await call(one, other, number), parent)
            recorded.made(await call(one, other, number + 1), parent)

    async def program() -> None:
        url, other_url = recorded.provider.openai_url, recorded.provider.anthropic_url
        async with (
            openai.AsyncOpenAI(base_url=url, **PATIENT) as one,
            anthropic.AsyncAnthropic(base_url=other_url, **PATIENT) as other,
        ):
            await asyncio.gather(*(run(one, other, number) for number in range(TASKS)))

    asyncio.run(program())
    recorded.check(2 * TASKS)
