"""cron > session > agent > task > tool > streamed call: the same tree, however it is written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from fakes.provider import FakeProvider
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider

import agentpulse

QUESTION: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
TREE = [
    ("cron", "nightly"),
    ("session", "daily-email"),
    ("agent", "invoke_agent mailer"),
    ("task", "write"),
    ("tool", "execute_tool send"),
    ("llm_call", "chat gpt-4o-mini"),
]


@dataclass
class World:
    """The clients of a program, its provider and the receiver of its events."""

    receiver: Receiver
    provider: FakeProvider

    def client(self) -> openai.OpenAI:
        http = openai.DefaultHttpxClient(verify=False)
        return openai.OpenAI(api_key="x", base_url=self.provider.openai_url, http_client=http)

    def async_client(self) -> openai.AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(verify=False)
        url = self.provider.openai_url
        return openai.AsyncOpenAI(api_key="x", base_url=url, http_client=http)

    def call(self) -> str:
        with self.client() as client:
            chunks = list(client.chat.completions.create(**QUESTION))
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    async def acall(self) -> None:
        async with self.async_client() as client:
            async for _ in await client.chat.completions.create(**QUESTION):
                pass


@pytest.fixture
def world() -> Iterator[World]:
    with Receiver() as receiver, FakeProvider() as provider:
        agentpulse.init(
            endpoint=receiver.url,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            heartbeat_interval=0,
        )
        yield World(receiver, provider)
        agentpulse.shutdown(0)


def written_in_blocks(world: World) -> None:
    with (
        agentpulse.cron("nightly", schedule="0 3 * * *"),
        agentpulse.session("daily-email"),
        agentpulse.agent("mailer"),
        agentpulse.task("write"),
        agentpulse.tool("send"),
    ):
        world.call()


def written_sync(world: World) -> None:
    @agentpulse.tool
    def send() -> None:
        world.call()

    @agentpulse.task
    def write() -> None:
        send()

    @agentpulse.agent("mailer")
    def mail() -> None:
        write()

    @agentpulse.session("daily-email")
    def email() -> None:
        mail()

    @agentpulse.cron("nightly", schedule="0 3 * * *")
    def job() -> None:
        email()

    job()


def written_async(world: World) -> None:
    @agentpulse.tool
    async def send() -> None:
        await world.acall()

    @agentpulse.task
    async def write() -> None:
        await asyncio.gather(send())

    @agentpulse.agent(name="mailer")
    async def mail() -> None:
        await asyncio.create_task(write())

    async def job() -> None:
        nightly = agentpulse.cron("nightly", schedule="0 3 * * *")
        async with nightly, agentpulse.session("daily-email"):
            await mail()

    asyncio.run(job())


def written_threaded(world: World) -> None:
    @agentpulse.tool
    def send() -> None:
        world.call()

    def write() -> None:
        with agentpulse.task("write"), ThreadPoolExecutor(1) as executor:
            executor.submit(send).result()

    @agentpulse.agent("mailer")
    def mail() -> None:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()

    with agentpulse.cron("nightly", schedule="0 3 * * *"), agentpulse.session("daily-email"):
        asyncio.run(asyncio.to_thread(mail))


def written_with_generators(world: World) -> None:  # noqa: C901  # as many functions as spans
    @agentpulse.tool
    def send() -> Iterator[str]:
        yield "before"
        yield world.call()

    @agentpulse.task
    async def write() -> AsyncIterator[str]:
        for piece in send():
            yield piece

    @agentpulse.agent("mailer")
    async def mail() -> AsyncIterator[str]:
        async for piece in write():
            yield piece

    async def read() -> list[str]:
        return [piece async for piece in mail()]

    @agentpulse.session("daily-email")
    def email() -> Iterator[str]:
        yield from asyncio.run(read())

    @agentpulse.cron("nightly", schedule="0 3 * * *")
    def job() -> Iterator[str]:
        yield from email()

    list(job())


def written_as_a_class(world: World) -> None:
    @agentpulse.agent("mailer")
    class Mailer:
        def mail(self) -> None:
            self._write()

        @agentpulse.task(name="write")
        def _write(self) -> None:
            self.send()

        @staticmethod
        @agentpulse.tool(name="send")
        def send() -> None:
            world.call()

    with agentpulse.cron("nightly", schedule="0 3 * * *") as run:
        assert run.status == "running"
        with agentpulse.session("daily-email"):
            Mailer().mail()


@pytest.mark.parametrize(
    "program",
    [
        written_in_blocks,
        written_sync,
        written_async,
        written_threaded,
        written_with_generators,
        written_as_a_class,
    ],
)
def test_the_tree_is_the_same_however_it_is_written(
    world: World, program: Callable[[World], None]
) -> None:
    program(world)
    assert agentpulse.flush()
    events = world.receiver.events
    assert path_to_the_call(events) == TREE

    started = {
        event["data"]["span_kind"]: event for event in events if event["kind"] == "span_start"
    }
    assert list(started) == ["cron", "session", "agent"]
    run, session = started["cron"]["session"], started["session"]["session"]
    assert run.startswith("nightly:")
    assert session.startswith("daily-email:")
    sent = [e for e in events if e["kind"] not in ("sdk_init", "cron") and not is_of(e, run)]
    assert {event["session"] for event in sent} == {session}

    (call,) = world.receiver.of_kind("llm_call")
    (cron,) = world.receiver.of_kind("cron")
    assert call["data"]["cost_usd"] > 0
    assert cron["session"] == cron["data"]["run_id"] == run
    for figure in ("cost_usd", "tokens", "input_tokens", "output_tokens"):
        assert cron["data"][figure] == call["data"][figure]
    assert (cron["data"]["calls"], cron["data"]["status"]) == (1, "ok")
    assert cron["data"]["schedule"] == "0 3 * * *"


def is_of(event: dict[str, Any], run: str) -> bool:
    """Whether it reports the cron run itself."""
    return event["kind"] in ("session", "span_start") and event["session"] == run


def path_to_the_call(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The spans from the outermost to the call."""
    spans = {}
    for event in events:
        data = event["data"]
        if event["kind"] == "cron":
            spans[event["span_id"]] = event, ("cron", data["job"])
        elif event["kind"] == "session" and data["action"] == "end" and data["type"] == "session":
            spans[event["span_id"]] = event, ("session", data["label"])
        elif event["kind"] == "span_end":
            spans[event["span_id"]] = event, (data["span_kind"], data["name"])
        elif event["kind"] == "llm_call":
            spans[event["span_id"]] = event, ("llm_call", data["name"])
    (current,) = [event for event, (kind, _) in spans.values() if kind == "llm_call"]
    path = []
    while True:
        path.append(spans[current["span_id"]][1])
        parent = current.get("parent_span_id")
        if parent is None:
            assert len(path) == len(spans)
            return path[::-1]
        current = spans[parent][0]
