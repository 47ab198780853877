"""The endpoints of the fake provider: requests of OpenAI and Anthropic in, replies out.

Texts and token counts are made up, the same every time.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

Body = Mapping[str, Any]

TEXT = "All quiet at 3 am: two mails answered, one invoice filed, nothing that needs you."
JSON = "application/json"
EVENTS = "text/event-stream"
_DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}


def dated(model: object) -> str:
    """The name under which a model answers."""
    return _DATED.get(str(model), str(model))


def tokens(content: Any) -> int:
    """A made-up count: four characters of JSON are a token."""
    return max(len(json.dumps(content)) // 4, 1)


def pieces(text: str) -> list[str]:
    """A text as it is streamed, word by word."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def answer_text(body: Body) -> str:
    """The text of every answer: JSON where the request has a format for it."""
    names = ("response_format", "text", "output_format", "output_config")
    return '{"mails": 2}' if '"json_' in json.dumps([body.get(name) for name in names]) else TEXT


@dataclass(frozen=True, slots=True)
class Charge:
    """The price of a call, in tokens as OpenAI counts them: cached input is input too."""

    provider: str
    model: str
    input_tokens: int
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP: a whole body, or a stream of events.

    Attributes:
        body: A JSON object, or bytes as they are; the plain form of a stream, where it is one.
        events: The events of a stream, encoded; None for a plain answer. An exception that comes
            out of them closes the connection, without the end of the stream.
        charge: Billed once the answer was sent whole.
    """

    body: Body | bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = JSON
    events: Iterable[bytes] | None = None
    charge: Charge | None = None

    def encoded(self) -> bytes:
        """The whole body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def sse(*events: Body, named: bool = False, done: bool = False) -> tuple[bytes, ...]:
    """Server-sent events; `named` as Anthropic and the Responses API do, `done` as chat does."""
    encoded = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    if named:
        names = (f"event: {event['type']}\n".encode() for event in events)
        encoded = [name + data for name, data in zip(names, encoded, strict=True)]
    return (*encoded, b"data: [DONE]\n\n") if done else tuple(encoded)


def chat(body: Body, number: int) -> Reply:
    """`/chat/completions`: text, or a call of the first tool where none was answered yet."""
    model = dated(body.get("model", "gpt-4o"))
    messages = body.get("messages", [])
    message, reason = _message(body, messages)
    spent_in, spent_out = tokens(messages), tokens(message)
    usage = {
        "prompt_tokens": spent_in,
        "completion_tokens": spent_out,
        "total_tokens": spent_in + spent_out,
        "prompt_tokens_details": {"cached_tokens": spent_in // 2, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    head = {
        "id": f"chatcmpl-{number}",
        "created": 1_763_884_800,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    charge = Charge("openai", model, spent_in, spent_out, spent_in // 2)
    choice = {"index": 0, "finish_reason": reason, "logprobs": None, "message": message}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    if not body.get("stream"):
        return Reply(whole, charge=charge)
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in [*((delta, None) for delta in _deltas(message)), ({}, reason)]
    ]
    options: Any = body.get("stream_options") or {}
    if options.get("include_usage"):
        chunks = [{**chunk, "usage": None} for chunk in chunks] + [{"choices": [], "usage": usage}]
    head["object"] = "chat.completion.chunk"
    events = sse(*({**head, **chunk} for chunk in chunks), done=True)
    return Reply(whole, content_type=EVENTS, events=events, charge=charge)


def _message(body: Body, messages: list[Any]) -> tuple[dict[str, Any], str]:
    tools, answered = body.get("tools"), any(each.get("role") == "tool" for each in messages)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if tools and not answered:
        function = {"name": tools[0]["function"]["name"], "arguments": '{"query": "unread"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        return {**message, "tool_calls": [call]}, "tool_calls"
    return {**message, "content": answer_text(body)}, "stop"


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    if not calls:
        words = pieces(message["content"])
        return [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    started = {**calls[0], "index": 0, "function": {**calls[0]["function"], "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": calls[0]["function"]["arguments"]}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [started]},
        {"tool_calls": [rest]},
    ]


def responses(body: Body, number: int) -> Reply:
    """`/responses`, unstreamed."""
    model = dated(body.get("model"))
    item = _output(body)
    spent_in, spent_out = tokens(body.get("input")), tokens(item)
    response = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_763_884_800,
        "status": "completed",
        "model": model,
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "service_tier": "default",
        "usage": {
            "input_tokens": spent_in,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": spent_out,
            "output_tokens_details": {"reasoning_tokens": spent_out // 2},
            "total_tokens": spent_in + spent_out,
        },
    }
    return Reply(response, charge=Charge("openai", model, spent_in, spent_out))


def _output(body: Body) -> dict[str, Any]:
    tools = body.get("tools")
    if tools and '"function_call_output"' not in json.dumps(body.get("input")):
        call = {"id": "fc_1", "call_id": "call_1", "type": "function_call", "status": "completed"}
        return {**call, "name": tools[0]["name"], "arguments": '{"query": "unread"}'}
    part = {"type": "output_text", "text": answer_text(body), "annotations": list[Any]()}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return {**message, "content": [part]}


def embeddings(body: Body, _number: int) -> Reply:
    """`/embeddings`, as floats or in base64."""
    given, model = body.get("input"), body.get("model")
    texts = cast("list[Any]", given) if isinstance(given, list) else [given]
    vector: Any = [0.25, -0.5, 1.0]
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))
    ]
    spent = tokens(texts)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    whole = {"object": "list", "data": data, "model": model, "usage": usage}
    return Reply(whole, charge=Charge("openai", str(model), spent))


def messages(body: Body, number: int) -> Reply:
    """`/v1/messages`: text, or a call of the first tool."""
    model = dated(body.get("model"))
    blocks = _content(body)
    fresh, cached, written = _input(body)
    spent = tokens(blocks)
    usage = {
        "input_tokens": fresh,
        "output_tokens": spent,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }
    ending = {
        "stop_reason": "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
    }
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        **ending,
        "usage": usage,
    }
    charge = Charge("anthropic", model, fresh + cached + written, spent, cached, written)
    if not body.get("stream"):
        return Reply(message, charge=charge)
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events = sse(
        {"type": "message_start", "message": begun},
        {"type": "ping"},
        *(event for index, block in enumerate(blocks) for event in _block_events(index, block)),
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": spent}},
        {"type": "message_stop"},
        named=True,
    )
    return Reply(message, content_type=EVENTS, events=events, charge=charge)


def _content(body: Body) -> list[dict[str, Any]]:
    tools = body.get("tools")
    if tools and '"tool_result"' not in json.dumps(body.get("messages", [])):
        call = {"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"]}
        return [{**call, "input": {"query": "unread"}}]
    return [{"type": "text", "text": answer_text(body), "citations": None}]


def _input(body: Body) -> tuple[int, int, int]:
    """Fresh, cached and written tokens: a system prompt with `cache_control` is cached."""
    fresh, system = tokens(body.get("messages")), body.get("system")
    marked = tokens(system) if system else 0
    if "cache_control" not in json.dumps(system):
        return fresh + marked, 0, 0
    return fresh, marked - marked // 4, marked // 4


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        empty: dict[str, Any] = {"text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in pieces(block["text"])]
    else:
        empty = {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return [
        {"type": "content_block_start", "index": index, "content_block": {**block, **empty}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


ENDPOINTS = {
    "/chat/completions": chat,
    "/responses": responses,
    "/embeddings": embeddings,
    "/v1/messages": messages,
}
"""By the end of the path, so that Azure's deployments are found as well."""
