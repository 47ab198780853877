"""Bodies of files and images on others' spans, which are sent to no one by us."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from agentpulse_exporter._wire.copies import PrivateExporter
from agentpulse_exporter._wire.mapper import Mapper
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

BODY = base64.b64encode(b"the pixels of a passport" * 4).decode()
PNG = f"data:image/png;base64,{BODY}"
MARK = "<image/png, 96 bytes>"
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
IMAGE = {"type": "image_url", "image_url": {"url": PNG}}
ANTHROPIC = {"type": "base64", "media_type": "image/png", "data": BODY}
BLOB = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": BODY}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "the conventions": (
        "opentelemetry.instrumentation.genai.openai",
        {**CALL, "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [BLOB]}])},
    ),
    "OpenInference": (
        "openinference.instrumentation.openai",
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.0.message_content.type": "image",
            "llm.input_messages.0.message.contents.0.message_content.image.image.url": PNG,
            "input.value": json.dumps({"messages": [{"role": "user", "content": [IMAGE]}]}),
        },
    ),
    "OpenLLMetry": (
        "opentelemetry.instrumentation.openai.v1",
        {**CALL, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": json.dumps([IMAGE])},
    ),
    "Logfire": (
        "logfire.openai",
        {
            **CALL,
            "logfire.span_type": "span",
            "request_data": json.dumps({"messages": [{"role": "user", "content": [IMAGE]}]}),
            "gen_ai.usage.input_tokens": 9,
        },
    ),
    "Langfuse": (
        "langfuse-sdk",
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.input": json.dumps([{"role": "user", "content": [IMAGE]}]),
        },
    ),
    "Vercel": (
        "ai",
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.prompt.messages": json.dumps(
                [{"role": "user", "content": [{"type": "image", "image": BODY}]}]
            ),
        },
    ),
    "a tool": (
        "opentelemetry.instrumentation.langchain",
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "look",
            "gen_ai.tool.call.result": json.dumps(
                {"result": json.dumps([{"type": "image", "source": ANTHROPIC}])}
            ),
        },
    ),
    "a program": ("program", {"gen_ai.operation.name": "plan", "picture": PNG, "all": (PNG, "x")}),
}


def span_of(scope: str, attributes: dict[str, Any]) -> ReadableSpan:
    return ReadableSpan(
        "a span",
        context=SpanContext(1, 2, False, TraceFlags(1)),
        attributes=attributes,
        events=[Event("gen_ai.content.prompt", {"gen_ai.prompt": f"See {PNG}"})],
        status=Status(StatusCode.ERROR, f"refused: {PNG}"),
        instrumentation_scope=InstrumentationScope(scope),
        start_time=1_767_225_600_000_000_000,
        end_time=1_767_225_601_000_000_000,
    )


@pytest.mark.parametrize("other", OTHERS)
def test_an_event_has_the_size_of_a_body_instead_of_it(other: str) -> None:
    span = span_of(*OTHERS[other])
    sent = "".join(event.json for event in Mapper(capture_messages=True).events(span))
    assert BODY not in sent
    assert "96 bytes" in sent
    assert f"refused: {MARK}" in sent
    assert BODY in span.to_json()


def test_a_message_has_the_type_and_size_of_its_image() -> None:
    (event,) = Mapper(capture_messages=True).events(span_of(*OTHERS["the conventions"]))
    assert event.data["messages"] == [{"role": "user", "content": "[image: image/png, 96 bytes]"}]
    at_an_address = json.dumps(
        [
            {
                "role": "user",
                "parts": [{"type": "uri", "modality": "image", "uri": "https://h/a?k=1"}],
            }
        ]
    )
    attributes = {**CALL, "gen_ai.input.messages": at_an_address}
    (event,) = Mapper(capture_messages=True).events(span_of("genai", attributes))
    assert event.data["messages"] == [{"role": "user", "content": "[image: https://h/a]"}]


@pytest.mark.parametrize("captures", [True, False])
def test_attributes_of_a_program_have_no_body(captures: bool) -> None:
    span = span_of(*OTHERS["a program"])
    (event,) = Mapper(capture_messages=captures).events(span)
    sent: Any = event.data["attributes"]
    assert (sent["picture"], sent["all"]) == (MARK, [MARK, "x"])


def test_redaction_is_given_no_body() -> None:
    given: list[str] = []

    def redact(text: str) -> str:
        given.append(text)
        return text

    Mapper(capture_messages=True, redact=redact).events(span_of(*OTHERS["OpenLLMetry"]))
    assert given
    assert not [text for text in given if BODY in text]


@pytest.mark.parametrize("redact", [None, lambda text: text])
@pytest.mark.parametrize("captures", [True, False])
@pytest.mark.parametrize("other", OTHERS)
def test_another_back_end_gets_no_body_from_us(other: str, captures: bool, redact: Any) -> None:
    memory, span = InMemorySpanExporter(), span_of(*OTHERS[other])
    PrivateExporter(memory, capture_messages=captures, redact=redact).export([span])
    (sent,) = memory.get_finished_spans()
    assert BODY not in sent.to_json()
    assert sent.context == span.context
    if captures and redact is None:
        (event,) = sent.events
        assert event.attributes == {"gen_ai.prompt": f"See {MARK}"}


def test_a_span_without_bodies_is_sent_as_it_is() -> None:
    memory = InMemorySpanExporter()
    attributes = {**CALL, "gen_ai.prompt.0.content": '{ "spacing":  "stays" }', "list": ("a", "b")}
    PrivateExporter(memory, capture_messages=True).export([span_of("genai", attributes)])
    (sent,) = memory.get_finished_spans()
    assert {name: sent.attributes[name] for name in attributes} == attributes


def test_half_a_character_does_not_cost_another_exporter_the_text() -> None:
    memory = InMemorySpanExporter()
    span = ReadableSpan(
        "chat \ud83e",
        SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)),
        attributes={**CALL, "gen_ai.output.messages": "half \ud83e of it", "tags": ("a\ud83e",)},
        status=Status(StatusCode.ERROR, "no \ud83e"),
    )
    PrivateExporter(memory, capture_messages=True).export([span])

    (copy,) = memory.get_finished_spans()
    assert (copy.attributes or {})["gen_ai.output.messages"] == "half \ufffd of it"
    assert (copy.attributes or {})["tags"] == ("a\ufffd",)
    copy.to_json().encode()
    (copy.status.description or "").encode()
