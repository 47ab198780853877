"""Streams that are open when recording stops, or the process ends, are recorded with what came."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from agentpulse_instrumentation import uninstrument
from fakes import processes
from fakes.provider import FakeProvider
from fakes.receiver import Receiver

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 40}]}
MESSAGE: dict[str, Any] = {**CHAT, "model": "claude-haiku-4-5", "max_tokens": 99}


def reported(span: dict[str, Any]) -> tuple[str, bool | None, list[str] | None, bool]:
    attributes = span["attributes"]
    return (
        span["name"],
        attributes.get("agentpulse.usage.estimated"),
        attributes.get("gen_ai.response.finish_reasons"),
        attributes.get("gen_ai.usage.output_tokens", 0) > 0,
    )


def test_an_open_stream_ends_with_the_recording(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    stream = clients.openai.chat.completions.create(**CHAT, stream=True)
    chunks = [next(stream) for _ in range(3)]
    assert spans() == []
    uninstrument()
    (span,) = spans()
    assert reported(span) == ("chat gpt-4o", True, ["error"], True)
    # It is still the caller's to read.
    chunks += list(stream)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert spans() == []


def test_an_open_async_stream_ends_with_the_recording(clients: Any, instrumented: Any) -> None:
    spans = instrumented()

    async def run() -> None:
        stream = await clients.aanthropic.messages.create(**MESSAGE, stream=True)
        events = [await anext(stream) for _ in range(4)]
        uninstrument()
        events += [event async for event in stream]
        assert events[-1].type == "message_stop"

    clients.run(run())
    (span,) = spans()
    assert reported(span)[:3] == ("chat claude-haiku-4-5", True, ["error"])


def test_an_open_body_ends_with_the_recording(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    with clients.openai.chat.completions.with_streaming_response.create(**CHAT) as response:
        uninstrument()
        (span,) = spans()
        assert response.json()
    assert span["name"] == "chat gpt-4o"
    assert spans() == []


def test_what_has_ended_is_not_recorded_again(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    stream = clients.openai.chat.completions.create(**CHAT, stream=True)
    list(stream)
    clients.openai.chat.completions.create(**CHAT)
    assert len(spans()) == 2
    uninstrument()
    assert spans() == []


PROGRAM = """
import asyncio, sys, agentpulse, openai
agentpulse.init(endpoint=sys.argv[1], heartbeat_interval=0)
client = openai.OpenAI(api_key="x", base_url=sys.argv[2])
said = [{"role": "user", "content": "x" * 40}]
kept = client.chat.completions.create(model="gpt-4o", messages=said, stream=True)
next(kept)
"""


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "raise LookupError"])
def test_a_stream_that_is_open_when_the_process_ends_is_recorded(ending: str) -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        command = [sys.executable, "-c", PROGRAM + ending, receiver.url, provider.openai_url]
        processes.run(command)
        (call,) = receiver.of_kind("llm_call")
    assert (call["data"]["name"], call["data"]["estimated"]) == ("chat gpt-4o", True)


FORKED = """
import os, sys
pid = os.fork()
if pid == 0:
    sys.exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_record_its_parents_streams() -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        command = [sys.executable, "-c", PROGRAM + FORKED, receiver.url, provider.openai_url]
        processes.run(command, check=True)
        assert len(receiver.of_kind("llm_call")) == 1
