"""What was written: recorded by the conventions where asked for, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from fakes.provider import TEXT, answers, fails

SECRET = "canary-7f3a"
PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}}
CHAT_TOOL = {"type": "function", "function": {"name": "search", "parameters": PARAMETERS}}
CALLED = {"id": "call_0", "type": "function"}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is new?"},
    {
        "role": "assistant",
        "tool_calls": [{**CALLED, "function": {"name": "search", "arguments": '{"query": "x"}'}}],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": "two mails"},
]


def content_of(span: dict[str, Any]) -> dict[str, Any]:
    names = ("input.messages", "output.messages", "system_instructions", "tool.definitions")
    attributes = span["attributes"]
    return {
        name: json.loads(attributes[f"gen_ai.{name}"])
        for name in names
        if f"gen_ai.{name}" in attributes
    }


def test_a_conversation_with_tools_is_reported_by_the_conventions(
    clients: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    clients.openai.chat.completions.create(model="gpt-4o", messages=CONVERSATION, tools=[CHAT_TOOL])
    (span,) = spans()
    assert content_of(span) == {
        "input.messages": [
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "What is new?"}]},
            {
                "role": "assistant",
                "parts": [
                    {
                        "type": "tool_call",
                        "id": "call_0",
                        "name": "search",
                        "arguments": {"query": "x"},
                    }
                ],
            },
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "call_0", "response": "two mails"}],
            },
        ],
        "output.messages": [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": TEXT}],
            }
        ],
        "tool.definitions": [{"type": "function", "name": "search", "parameters": PARAMETERS}],
    }


def test_half_a_character_of_an_answer_costs_no_exporter_the_rest(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    message = {"role": "assistant", "content": "half \ud83e of an emoji"}
    provider.script(answers({"id": "x", "choices": [{"index": 0, "message": message}]}))
    answer = clients.openai.chat.completions.create(model="gpt-4o", messages=CONVERSATION)
    assert answer.choices[0].message.content == message["content"]
    (span,) = spans()
    (sent,) = content_of(span)["output.messages"]
    assert sent["parts"] == [{"type": "text", "content": "half \ufffd of an emoji"}]
    span["attributes"]["gen_ai.output.messages"].encode()


def test_an_anthropic_conversation_is_reported_the_same_way(
    clients: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    clients.anthropic.messages.create(
        model="claude-haiku-4-5",
        max_tokens=2000,
        system="Be brief.",
        messages=[{"role": "user", "content": "What is new?"}],
        tools=[{"name": "search", "input_schema": PARAMETERS}],
    )
    (span,) = spans()
    assert content_of(span) == {
        "system_instructions": [{"type": "text", "content": "Be brief."}],
        "input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "What is new?"}]}
        ],
        "output.messages": [
            {
                "role": "assistant",
                "parts": [
                    {
                        "type": "tool_call",
                        "id": "toolu_1",
                        "name": "search",
                        "arguments": {"query": "unread"},
                    }
                ],
            }
        ],
        "tool.definitions": [{"type": "function", "name": "search", "parameters": PARAMETERS}],
    }


@pytest.mark.parametrize("kind", ["chat", "responses", "messages"])
def test_a_stream_reports_what_the_plain_call_reports(
    kind: str, clients: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    spoken = [{"role": "user", "content": "What is new?"}]
    call, body = {
        "chat": (clients.openai.chat.completions.create, {"model": "gpt-4o", "messages": spoken}),
        "responses": (clients.openai.responses.create, {"model": "gpt-4o", "input": spoken}),
        "messages": (
            clients.anthropic.messages.create,
            {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": spoken},
        ),
    }[kind]
    call(**body)
    list(call(**body, stream=True))
    plain, streamed = spans()
    assert content_of(plain) == content_of(streamed)
    assert TEXT in plain["attributes"]["gen_ai.output.messages"]


def everything_spoken(clients: Any) -> None:
    """One call of each kind, a secret in everything that a user can say."""
    tool = {**CHAT_TOOL, "function": {**CHAT_TOOL["function"], "description": SECRET}}
    spoken: list[Any] = [*CONVERSATION, {"role": "user", "content": SECRET}]
    openai, anthropic = clients.openai, clients.anthropic
    openai.chat.completions.create(model="gpt-4o", messages=spoken, tools=[tool], user=SECRET)
    list(openai.chat.completions.create(model="gpt-4o", messages=spoken, stream=True))
    openai.responses.create(model="gpt-4o", input=SECRET, instructions=SECRET)
    openai.completions.create(model="gpt-3.5-turbo-instruct", prompt=SECRET)
    openai.embeddings.create(model="text-embedding-3-small", input=[SECRET])
    openai.moderations.create(input=SECRET)
    openai.images.generate(model="gpt-image-1", prompt=SECRET)
    openai.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=(f"{SECRET}.mp3", SECRET.encode()), prompt=SECRET
    )
    anthropic.messages.create(
        model="claude-haiku-4-5",
        max_tokens=9,
        system=SECRET,
        messages=[{"role": "user", "content": SECRET}],
        tools=[{"name": "search", "description": SECRET, "input_schema": PARAMETERS}],
    )


def test_without_capture_nothing_that_was_stated_is_on_a_span_or_in_a_log(
    clients: Any, provider: Any, instrumented: Any, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG, logger="agentpulse")
    spans = instrumented()
    everything_spoken(clients)
    provider.script(fails(400, "invalid_request_error"))
    with pytest.raises(Exception, match="invalid_request_error"):
        everything_spoken(clients)
    ended = spans.finished()
    assert len(ended) == 10
    assert not [span.name for span in ended if SECRET in span.to_json()]
    assert not [span.name for span in ended if "This is a fake" in span.to_json()]
    assert SECRET not in caplog.text


def test_with_capture_the_text_of_an_error_is_recorded(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    provider.script(fails(400, "invalid_request_error"))
    with pytest.raises(Exception, match="invalid_request_error"):
        everything_spoken(clients)
    (span,) = spans()
    assert "This is a fake invalid_request_error." in span["description"]


@pytest.mark.parametrize(
    ("value", "captures"),
    [("SPAN_ONLY", True), ("SPAN_AND_EVENT", True), ("EVENT_ONLY", False), ("NO_CONTENT", False)],
)
def test_the_standard_variable_decides_where_nothing_else_does(
    value: str, captures: bool, clients: Any, instrumented: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    spans = instrumented(capture_messages=None)
    clients.openai.responses.create(model="gpt-4o", input="What is new?")
    (span,) = spans()
    assert ("gen_ai.input.messages" in span["attributes"]) is captures


def test_content_of_a_shape_nobody_expects_does_not_break_the_call(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    provider.script(answers({"id": "x", "choices": [{"index": 0, "message": {"content": 7}}]}))
    spoken = [{"role": "user", "content": [{"type": "unheard of", "of": 1}, "text"]}]
    answer = clients.openai.chat.completions.create(model="gpt-4o", messages=spoken)
    assert answer.id == "x"
    assert len(spans()) == 1


def test_async_calls_capture_too(clients: Any, instrumented: Any) -> None:
    spans = instrumented(capture_messages=True)

    async def call() -> None:
        await clients.aopenai.responses.create(model="gpt-4o", input="What is new?")
        await asyncio.sleep(0)

    clients.run(call())
    (span,) = spans()
    assert content_of(span)["output.messages"][0]["parts"] == [{"type": "text", "content": TEXT}]
