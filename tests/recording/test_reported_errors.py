"""Errors that come with status 200, and streams that end before the answer is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import anthropic
import openai
import pytest
from fakes.provider import EVENTS, Change, Reply, answers, sse

HELLO: Any = [{"role": "user", "content": "What is new?"}]
SECRET = "canary-51d0"
ERROR = {"message": f"too large: {SECRET}", "code": 400, "type": "invalid_request_error"}
CALLS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda c: c.openai.chat.completions.create(model="gpt-4o", messages=HELLO),
    "chat, raw": lambda c: c.openai.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=HELLO
    ),
    "chat, streaming response": lambda c: read(c.openai.chat.completions, messages=HELLO),
    "chat, posted": lambda c: c.openai.post(
        "/chat/completions", body={"model": "gpt-4o", "messages": HELLO}, cast_to=dict[str, object]
    ),
    "responses": lambda c: c.openai.responses.create(model="gpt-4o", input="?"),
    "responses, raw": lambda c: c.openai.responses.with_raw_response.create(
        model="gpt-4o", input="?"
    ),
    "completions": lambda c: c.openai.completions.create(model="davinci", prompt="?"),
    "embeddings": lambda c: c.openai.embeddings.create(
        model="text-embedding-3-small", input="?", encoding_format="float"
    ),
    "images": lambda c: c.openai.images.generate(model="gpt-image-1", prompt="?"),
    "moderations": lambda c: c.openai.moderations.create(input="?"),
    "transcriptions": lambda c: c.openai.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.mp3", b"?")
    ),
    "transcriptions, as text": lambda c: c.openai.audio.transcriptions.create(
        model="whisper-1", file=("a.mp3", b"?"), response_format="text"
    ),
    "speech": lambda c: c.openai.audio.speech.create(model="tts-1", voice="alloy", input="?"),
    "messages": lambda c: c.anthropic.messages.create(
        model="claude-haiku-4-5", max_tokens=9, messages=HELLO
    ),
    "messages, raw": lambda c: c.anthropic.messages.with_raw_response.create(
        model="claude-haiku-4-5", max_tokens=9, messages=HELLO
    ),
    "chat, streamed": lambda c: list(
        c.openai.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    ),
    "chat, streamed raw": lambda c: list(
        c.openai.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=HELLO, stream=True
        ).parse()
    ),
}


def read(resource: Any, **body: Any) -> None:
    with resource.with_streaming_response.create(model="gpt-4o", **body) as response:
        response.read()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        ({"error": ERROR}, "invalid_request_error"),
        ({"type": "error", "error": ERROR}, "invalid_request_error"),
        ({"object": "error", **ERROR, "type": "BadRequestError"}, "BadRequestError"),
        ({"error": {"message": SECRET, "code": 502}}, "502"),
        ({"error": SECRET}, "_OTHER"),
        ({"error": {"message": "?", "code": f"{SECRET} is too large", "type": 7}}, "_OTHER"),
    ],
    ids=["OpenAI's", "Anthropic's", "vLLM's", "OpenRouter's", "a text", "no code"],
)
@pytest.mark.parametrize("call", CALLS)
def test_an_error_in_place_of_an_answer_is_an_error(
    call: str,
    body: dict[str, Any],
    error_type: str,
    content_type: str,
    clients: Any,
    provider: Any,
    instrumented: Any,
) -> None:
    spans = instrumented()
    provider.script(lambda _reply: Reply(body, content_type=content_type))
    # What the client makes of it is the caller's.
    with contextlib.suppress(openai.OpenAIError, anthropic.AnthropicError):
        CALLS[call](clients)
    (span,) = spans.finished()
    assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", error_type)
    assert SECRET not in span.to_json()


def chat(**choice: Any) -> Change:
    def change(reply: Reply) -> Reply:
        body: Mapping[str, Any] = json.loads(reply.encoded())
        return replace(reply, body={**body, "choices": [{**body["choices"][0], **choice}]})

    return change


@pytest.mark.parametrize("way", ["plain", "raw"])
def test_an_error_in_a_choice_is_an_error_and_the_answer_is_what_came(
    way: str, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(chat(finish_reason="error", error={"code": 502, "message": SECRET}))
    completions = clients.openai.chat.completions
    make = completions.create if way == "plain" else completions.with_raw_response.create
    answer = make(model="gpt-4o", messages=HELLO)
    reported = answer if way == "plain" else answer.parse()
    assert reported.choices[0].finish_reason == "error"
    assert reported.choices[0].error == {"code": 502, "message": SECRET}
    (span,) = spans.finished()
    assert span.attributes["error.type"] == "502"
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert span.attributes["gen_ai.usage.output_tokens"] > 0
    assert SECRET not in span.to_json()


HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chunk(text: str, reason: str | None = None, *, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    return {**HEAD, "choices": [choice], **more}


def streams(*chunks: Mapping[str, Any], done: bool) -> Change:
    events = sse(*chunks, done=done)
    return lambda _reply: Reply(content_type=EVENTS, events=events)


def read_stream(clients: Any, way: str, **more: Any) -> None:
    body = {"model": "gpt-4o", "messages": HELLO, "stream": True, **more}
    completions = clients.openai.chat.completions
    if way == "stream":
        list(completions.create(**body))
    elif way == "raw":
        list(completions.with_raw_response.create(**body).parse())
    elif way == "lines":
        with completions.with_streaming_response.create(**body) as response:
            list(response.iter_lines())
    else:

        async def call() -> None:
            async for _ in await clients.aopenai.chat.completions.create(**body):
                pass

        clients.run(call())


WAYS = ["stream", "raw", "lines", "async"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("usage", [{}, {"usage": USAGE}], ids=["no usage", "usage in each chunk"])
def test_a_stream_that_ends_before_its_reason_is_cut(
    usage: Any, way: str, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(streams(chunk("One", **usage), chunk(" two", **usage), done=False))
    read_stream(clients, way)
    (span,) = spans()
    attributes = span["attributes"]
    assert (span["status"], attributes["error.type"]) == ("ERROR", "stream_cut")
    assert attributes["gen_ai.response.finish_reasons"] == ["error"]
    assert attributes.get("agentpulse.usage.estimated", False) is not bool(usage)
    assert attributes["gen_ai.usage.output_tokens"] == (3 if usage else 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("second", "reasons"),
    [([chunk(" two", index=1)], ["stop", "error"]), ([], ["stop", "error"])],
    ids=["not finished", "not begun"],
)
def test_a_stream_is_cut_if_one_of_its_choices_has_no_reason(
    second: list[Any], reasons: list[str], way: str, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(streams(chunk("One", "stop", usage=USAGE), *second, done=False))
    read_stream(clients, way, n=2)
    (span,) = spans()
    assert span["attributes"]["error.type"] == "stream_cut"
    assert span["attributes"]["gen_ai.response.finish_reasons"] == reasons


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "chunks",
    [
        [chunk("One"), chunk(" two")],
        [chunk("One"), {**HEAD, "choices": [], "usage": USAGE}],
        [chunk("One", "stop"), chunk(" data: [DONE] ", index=1)],
    ],
    ids=["no reason", "no reason but usage", "one reason of two"],
)
def test_a_stream_that_the_server_says_is_over_is_over(
    chunks: list[Any], way: str, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(streams(*chunks, done=True))
    read_stream(clients, way)
    (span,) = spans()
    assert "error.type" not in span["attributes"]
    assert "status" not in span


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("end", "after"), [("data: [DONE]", ": a comment\n\n" * 9), ("data:[DONE]", "")]
)
def test_so_it_is_whatever_follows_or_is_between(
    end: str, after: str, way: str, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    events = [*sse(chunk("One"), done=False), f"{end}\n\n".encode()]
    provider.script(
        lambda _reply: Reply(
            content_type=EVENTS, events=(*events, *([after.encode()] * bool(after)))
        )
    )
    read_stream(clients, way)
    (span,) = spans()
    assert "error.type" not in span["attributes"]


@pytest.mark.parametrize("way", WAYS)
def test_text_that_looks_like_the_end_of_a_stream_ends_none(
    way: str, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(streams(chunk("\n\ndata: [DONE]\n\n"), done=False))
    read_stream(clients, way)
    (span,) = spans()
    assert span["attributes"]["error.type"] == "stream_cut"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    ("last", "error_type"),
    [
        (chunk("", "error"), "_OTHER"),
        (chunk("", "error", error={"code": "server_error", "message": SECRET}), "server_error"),
        (chunk("", error={"code": "server_error", "message": SECRET}), "server_error"),
        ({"error": {"code": 502, "message": SECRET}}, "502"),
    ],
    ids=["reason", "chunk with a reason", "chunk", "error alone"],
)
def test_an_error_in_a_stream_is_an_error(
    last: dict[str, Any],
    error_type: str,
    done: bool,
    way: str,
    clients: Any,
    provider: Any,
    instrumented: Any,
) -> None:
    spans = instrumented()
    provider.script(streams(chunk("One"), last, done=done))
    with contextlib.suppress(openai.APIError):
        read_stream(clients, way)
    (span,) = spans.finished()
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == error_type
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert SECRET not in span.to_json()


def test_an_error_in_a_choice_of_a_stream_has_its_code(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    failed = chunk("", "error")
    failed["choices"][0]["error"] = {"code": "overloaded", "message": SECRET}
    provider.script(
        streams(chunk("One"), failed, {**HEAD, "choices": [], "usage": USAGE}, done=True)
    )
    read_stream(clients, "stream")
    (span,) = spans()
    assert span["attributes"]["error.type"] == "overloaded"
    assert span["attributes"]["gen_ai.usage.output_tokens"] == 3


def test_a_response_that_failed_was_fetched_all_the_same(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    body = {"id": "resp_1", "status": "failed", "output": [], "error": {"code": "server_error"}}
    provider.script(answers(body), answers({"error": ERROR}), answers(body))
    clients.openai.responses.retrieve("resp_1")
    clients.openai.responses.retrieve("resp_1")
    clients.openai.responses.create(model="gpt-4o", input="?")
    fetched, refused, made = spans()
    assert "error.type" not in fetched["attributes"]
    assert refused["attributes"]["error.type"] == "invalid_request_error"
    assert made["attributes"]["error.type"] == "server_error"


def test_an_async_client_reports_errors_too(clients: Any, provider: Any, instrumented: Any) -> None:
    spans = instrumented()
    provider.script(answers({"error": ERROR}), answers({"type": "error", "error": ERROR}))

    async def calls() -> None:
        await clients.aopenai.embeddings.create(
            model="text-embedding-3-small", input="?", encoding_format="float"
        )
        await clients.aanthropic.messages.create(
            model="claude-haiku-4-5", max_tokens=9, messages=HELLO
        )
        await asyncio.sleep(0)

    clients.run(calls())
    types = [span["attributes"]["error.type"] for span in spans()]
    assert types == ["invalid_request_error"] * 2
