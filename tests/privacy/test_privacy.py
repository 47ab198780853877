"""Nothing that was written leaves the process, unless messages are captured; then, as redacted."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import openai
import pytest
from agentpulse_instrumentation._engine import patching
from fakes.canaries import MARK, Canaries, Watched
from fakes.provider import Reply

import agentpulse

SECRET = "sk-canary-of-the-key-0123456789"


def openai_client(watched: Watched) -> openai.OpenAI:
    spoken = watched.canaries
    return openai.OpenAI(
        api_key=SECRET,
        base_url=watched.provider.openai_url,
        max_retries=0,
        default_headers={"X-Note": spoken("header of the client")},
        default_query={"note": spoken("query of the client")},
        http_client=openai.DefaultHttpxClient(verify=False),
    )


def anthropic_client(watched: Watched) -> anthropic.Anthropic:
    spoken = watched.canaries
    return anthropic.Anthropic(
        api_key=SECRET,
        base_url=watched.provider.anthropic_url,
        max_retries=0,
        default_headers={"X-Note": spoken("header of the other client")},
        http_client=anthropic.DefaultHttpxClient(verify=False),
    )


def answering(spoken: Canaries, place: str) -> Any:
    """The answer that would have been given, with all its words and arguments replaced."""

    def change(reply: Reply) -> Reply:
        def deep(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {name: deep(item, name) for name, item in value.items()}
            if isinstance(value, list):
                return [deep(item, key) for item in value]
            if key in ("content", "text", "transcript", "revised_prompt") and value:
                return spoken(f"{place} text")
            if key == "arguments":
                return json.dumps({"query": spoken(f"{place} arguments")})
            return value

        if reply.events is not None:
            return replace(reply, events=tuple(deep_event(each, deep) for each in reply.events))
        return replace(reply, body=deep(json.loads(reply.encoded())))

    return change


def deep_event(event: bytes, deep: Any) -> bytes:
    lines = event.split(b"\n")
    for at, line in enumerate(lines):
        if line.startswith(b"data: {"):
            lines[at] = b"data: " + json.dumps(deep(json.loads(line[6:]))).encode()
    return b"\n".join(lines)


def chat(spoken: Canaries) -> dict[str, Any]:
    function = {
        "name": "search",
        "description": spoken("description of a tool"),
        "parameters": {
            "type": "object",
            "properties": {spoken("parameter of a tool"): {"type": "string"}},
        },
    }
    called = {
        "id": "call_0",
        "type": "function",
        "function": {
            "name": "search",
            "arguments": json.dumps({"query": spoken("earlier arguments")}),
        },
    }
    return {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": spoken("system prompt")},
            {"role": "user", "name": "someone", "content": spoken("prompt")},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_0", "content": spoken("result of a tool")},
            {"role": "user", "content": [{"type": "text", "text": spoken("part of a prompt")}]},
        ],
        "tools": [{"type": "function", "function": function}],
        "stop": [spoken("stop sequence")],
        "metadata": {"note": spoken("metadata")},
        "user": spoken("user of the provider"),
        "prediction": {"type": "content", "content": spoken("prediction")},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"title": spoken("schema of the answer")}},
        },
        "extra_headers": {"X-More": spoken("header of the call")},
        "extra_query": {"more": spoken("query of the call")},
        "extra_body": {"more": spoken("body of the call")},
    }


def response(spoken: Canaries) -> dict[str, Any]:
    return {
        "model": "gpt-4o",
        "instructions": spoken("instructions"),
        "input": [{"role": "user", "content": spoken("input")}],
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": spoken("description of a function"),
                "parameters": {},
                "strict": False,
            }
        ],
        "metadata": {"note": spoken("metadata of a response")},
        # Older clients don't know these by name.
        "extra_body": {
            "prompt_cache_key": spoken("cache key"),
            "safety_identifier": spoken("safety identifier"),
        },
    }


def message(spoken: Canaries) -> dict[str, Any]:
    return {
        "model": "claude-haiku-4-5",
        "max_tokens": 99,
        "system": spoken("system of a message"),
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": spoken("text of a message")}]},
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "id": "toolu_0",
                        "name": "search",
                        "input": {"query": spoken("input of a tool use")},
                    }
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_0",
                        "content": spoken("tool result of a message"),
                    }
                ],
            },
        ],
        "tools": [
            {
                "name": "search",
                "description": spoken("description of a tool of messages"),
                "input_schema": {"type": "object", "properties": {}},
            }
        ],
        "stop_sequences": [spoken("stop sequence of a message")],
        "metadata": {"user_id": spoken("user of messages")},
        "extra_headers": {"X-More": spoken("header of a message")},
    }


def call_openai(watched: Watched) -> None:
    spoken, script = watched.canaries, watched.provider.script
    with openai_client(watched) as client:
        script(answering(spoken, "answer"))
        client.chat.completions.create(**chat(spoken))
        script(answering(spoken, "streamed answer"))
        list(client.chat.completions.create(**chat(spoken), stream=True))
        script(answering(spoken, "response"))
        client.responses.create(**response(spoken))
        script(answering(spoken, "streamed response"))
        list(client.responses.create(**response(spoken), stream=True))
        script(answering(spoken, "completion"))
        client.completions.create(
            model="gpt-3.5-turbo-instruct",
            prompt=spoken("legacy prompt"),
            suffix=spoken("legacy suffix"),
        )
        client.embeddings.create(model="text-embedding-3-small", input=spoken("embedded text"))
        client.images.generate(model="gpt-image-1", prompt=spoken("prompt of an image"))
        client.moderations.create(model="omni-moderation-latest", input=spoken("moderated text"))
        client.audio.speech.create(model="tts-1", voice="alloy", input=spoken("spoken text"))
        script(answering(spoken, "transcript"))
        client.audio.transcriptions.create(
            model="whisper-1",
            file=(spoken("name of a file"), io.BytesIO(b"RIFF")),
            prompt=spoken("prompt of a transcription"),
        )
        script(watched.fails("error"))
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**chat(spoken))
        script(watched.fails("error of a stream"))
        with pytest.raises(openai.BadRequestError):
            client.responses.create(**response(spoken), stream=True)
        with contextlib.suppress(openai.APIStatusError):
            client.post(f"/{spoken('path')}", cast_to=object, body={"x": spoken("body of a post")})


def call_anthropic(watched: Watched) -> None:
    spoken, script = watched.canaries, watched.provider.script
    with anthropic_client(watched) as client:
        script(answering(spoken, "message"))
        client.messages.create(**message(spoken))
        script(answering(spoken, "streamed message"))
        list(client.messages.create(**message(spoken), stream=True))
        with client.messages.stream(**message(spoken)) as stream:
            stream.get_final_message()
        script(watched.fails("error of a message"))
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**message(spoken))


def run_own(watched: Watched) -> None:
    """All that the decorators and contexts see."""
    spoken = watched.canaries

    @agentpulse.agent
    class Clerk:
        def work(self, given: str) -> str:
            return given.replace("argument of a method", "x") + spoken("result of a method")

    @agentpulse.tool
    def find(query: str, **more: str) -> str:
        return spoken("result of a function") if query and more else ""

    @agentpulse.task
    def lines(count: str) -> Iterator[str]:
        yield spoken("line of a generator")
        yield count

    @agentpulse.trace
    async def alines(count: str) -> AsyncIterator[str]:
        yield spoken("line of an async generator")
        yield count

    @agentpulse.task
    async def wait(count: str) -> str:
        await asyncio.sleep(0)
        raise LookupError(spoken("exception of a coroutine"), count)

    async def later() -> None:
        async for _ in alines(spoken("argument of an async generator")):
            pass
        with contextlib.suppress(LookupError):
            await wait(spoken("argument of a coroutine"))

    with agentpulse.session("day"):
        Clerk().work(spoken("argument of a method"))
        find(spoken("argument of a function"), note=spoken("keyword of a function"))
        list(lines(spoken("argument of a generator")))
        asyncio.run(later())
    fail(spoken)


def fail(spoken: Canaries) -> None:
    """All the ways in which a program's own exceptions are recorded."""
    with contextlib.suppress(ValueError), agentpulse.cron("night", schedule="0 3 * * *"):
        raise ValueError(spoken("exception of a cron job"))
    with contextlib.suppress(KeyError), agentpulse.session("evening"):
        raise KeyError(spoken("exception of a session"))

    def crash() -> None:
        raise RuntimeError(spoken("exception of a thread"))

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()


CAPTURED = {
    *("answer text", "streamed answer text", "system prompt", "prompt", "result of a tool"),
    *("earlier arguments", "part of a prompt", "instructions", "input", "response arguments"),
    *("streamed response arguments", "error", "error of a stream"),
    *("completion text", "legacy prompt"),
    *("system of a message", "text of a message", "input of a tool use"),
    *("tool result of a message", "message text", "streamed message text", "error of a message"),
    *("argument of a method", "result of a method", "argument of a function"),
    *("keyword of a function", "result of a function", "argument of a generator"),
    *("argument of an async generator", "argument of a coroutine", "exception of a coroutine"),
    *("exception of a cron job", "exception of a session", "exception of a thread"),
}
"""What is reported where messages are captured. Keys, headers and addresses aren't."""

OF_PROGRAM = {
    *("argument of a method", "result of a method", "argument of a function"),
    *("keyword of a function", "result of a function", "argument of a generator"),
    *("argument of an async generator", "argument of a coroutine", "exception of a coroutine"),
    *("exception of a cron job", "exception of a session", "exception of a thread"),
}
"""What no client of a model is reported."""
OF_TOOLS = {
    *("description of a tool", "parameter of a tool", "description of a function"),
    "description of a tool of messages",
}
"""Definitions of tools are on spans and events, and not sent."""
STOPPED_BY = {"stop sequence", "stop sequence of a message"}

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def everything(watched: Watched) -> None:
    call_openai(watched)
    call_anthropic(watched)
    run_own(watched)


def test_nothing_that_was_stated_leaves_the_process(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with Watched(caplog) as watched:
        everything(watched)
        kinds = {event["kind"] for event in watched.events()}
        assert {"llm_call", "span_end", "session", "cron", "error"} <= kinds
        for left in (watched.sent(), watched.logged()):
            assert watched.canaries.within(left) == set()
            assert MARK not in left
        # A parameter that the conventions recommend for spans. It isn't sent.
        assert watched.canaries.within(watched.exported()) == STOPPED_BY
        assert SECRET not in watched.exported()
        # The hook of threads prints what it did not handle, and so it should.
        printed = capfd.readouterr().err
        assert watched.canaries.within(printed) <= {"exception of a thread"}


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"])
def test_content_is_where_the_standard_variable_wants_it_and_nowhere_else(
    mode: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", mode)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT", "true")
    on_spans, on_events = "SPAN" in mode, "EVENT" in mode
    with Watched(caplog) as watched:
        everything(watched)
        within = watched.canaries.within

        assert "gen_ai.client.inference.operation.details" not in watched.sent()
        assert within(watched.sent()) == (CAPTURED if on_spans else set())
        of_spans = CAPTURED | OF_TOOLS if on_spans else set()
        assert within(watched.exported()) == STOPPED_BY | of_spans
        of_events = CAPTURED - OF_PROGRAM | OF_TOOLS | STOPPED_BY if on_events else set()
        assert within(watched.emitted()) == of_events
        assert within(watched.logged()) == set()
        assert watched.emitted().count('"gen_ai.operation.name"') > 10
        assert SECRET not in watched.sent() + watched.emitted() + watched.exported()


def test_what_goes_wrong_with_us_says_nothing_either(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "strict", False)

    def broken(*_given: object, **_more: object) -> None:
        raise ValueError(*map(str, _given), str(_more))

    with Watched(caplog, capture_messages=True) as watched:
        monkeypatch.setattr("agentpulse_instrumentation.openai._content._chat_message", broken)
        monkeypatch.setattr("agentpulse_exporter._wire.mapper.conversation", broken)
        with openai_client(watched) as client:
            client.chat.completions.create(**chat(watched.canaries))
        agentpulse.flush()

        assert "ValueError" in watched.logged()
        assert watched.canaries.within(watched.logged()) == set()


def test_messages_are_reported_where_they_are_captured(caplog: pytest.LogCaptureFixture) -> None:
    with Watched(caplog, capture_messages=True) as watched:
        everything(watched)
        reported = watched.canaries.within(watched.sent())

        assert reported == CAPTURED
        assert SECRET not in watched.sent() + watched.logged() + watched.exported()


def test_the_user_has_the_last_word_on_what_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    def redact(text: str) -> str:
        return text.replace(MARK, "hidden")

    with Watched(caplog, capture_messages=True, redact=redact) as watched:
        everything(watched)
        sent = watched.sent()

        assert watched.canaries.within(sent) == set()
        assert Canaries.within(watched.canaries, sent.replace("hidden", MARK)) == CAPTURED


def test_a_failing_redaction_costs_the_event_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def redact(text: str) -> str:
        if MARK in text:
            raise SystemExit(text)
        return text

    with Watched(caplog, capture_messages=True, redact=redact) as watched:
        with openai_client(watched) as client:
            client.chat.completions.create(**chat(watched.canaries))
            client.embeddings.create(model="text-embedding-3-small", input="no secret")
        assert not agentpulse.flush()
        names = [event["data"]["name"] for event in watched.receiver.of_kind("llm_call")]

        assert names == ["embeddings text-embedding-3-small"]
        assert agentpulse.stats().dropped == {"redaction_failed": 1}
        assert watched.canaries.within(watched.logged()) == set()
