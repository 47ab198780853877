"""The endpoints of the fake provider: requests of OpenAI and Anthropic in, replies out.

Texts and token counts are made up, the same every time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

Body = Mapping[str, Any]

TEXT = "All quiet at 3 am: two mails answered, one invoice filed, nothing that needs you."
JSON = "application/json"
EVENTS = "text/event-stream"
_MADE = 1_763_884_800
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


def sse(*events: Body, done: bool = False) -> tuple[bytes, ...]:
    """Server-sent events, named where they have a type; `done` as the end of a chat's."""
    names = (f"event: {event['type']}\n" if "type" in event else "" for event in events)
    data = (f"data: {json.dumps(event)}\n\n" for event in events)
    encoded = tuple(f"{name}{text}".encode() for name, text in zip(names, data, strict=True))
    return (*encoded, b"data: [DONE]\n\n") if done else encoded


def _tool(body: Body) -> dict[str, Any] | None:
    """The first tool, where the conversation has no tool's answer yet."""
    tools, sent = body.get("tools"), json.dumps(body)
    answers = ('"role": "tool"', '"function_call_output"', '"tool_result"')
    return tools[0] if tools and not any(mark in sent for mark in answers) else None


def chat(body: Body, number: int) -> Reply:
    """`/chat/completions`: text, or a call of the first tool where none was answered yet."""
    model = dated(body.get("model", "gpt-4o"))
    message, reason = _message(body)
    read, wrote = tokens(body.get("messages", [])), tokens(message)
    usage: Any = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    usage["prompt_tokens_details"] = {"cached_tokens": read // 2, "audio_tokens": 0}
    usage["completion_tokens_details"] = {"reasoning_tokens": 0, "audio_tokens": 0}
    served = {"service_tier": "default", "system_fingerprint": "fp_fake"}
    head: Any = {"id": f"chatcmpl-{number}", "created": _MADE, "model": model, **served}
    charge = Charge("openai", model, read, wrote, read // 2)
    choice = {"index": 0, "finish_reason": reason, "logprobs": None, "message": message}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    if not body.get("stream"):
        return Reply(whole, charge=charge)
    choices: list[Any] = [{"delta": delta, "finish_reason": None} for delta in _deltas(message)]
    choices.append({"delta": {}, "finish_reason": reason})
    chunks: list[Any] = [{"choices": [{"index": 0, **choice}]} for choice in choices]
    options: Any = body.get("stream_options") or {}
    if options.get("include_usage"):
        chunks = [{**chunk, "usage": None} for chunk in chunks] + [{"choices": [], "usage": usage}]
    head["object"] = "chat.completion.chunk"
    events = sse(*({**head, **chunk} for chunk in chunks), done=True)
    return Reply(whole, content_type=EVENTS, events=events, charge=charge)


def _message(body: Body) -> tuple[dict[str, Any], str]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if tool := _tool(body):
        function = {"name": tool["function"]["name"], "arguments": '{"query": "unread"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        return {**message, "tool_calls": [call]}, "tool_calls"
    return {**message, "content": answer_text(body)}, "stop"


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    if not calls:
        words = pieces(message["content"])
        return [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    function = calls[0]["function"]
    started = {**calls[0], "index": 0, "function": {**function, "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": function["arguments"]}}
    first = {"role": "assistant", "content": None, "tool_calls": [started]}
    return [first, {"tool_calls": [rest]}]


def responses(body: Body, number: int) -> Reply:
    """`/responses`, unstreamed."""
    model, item = dated(body.get("model")), _output(body)
    read, wrote = tokens(body.get("input")), tokens(item)
    usage: Any = {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}
    usage["input_tokens_details"] = {"cached_tokens": 0}
    usage["output_tokens_details"] = {"reasoning_tokens": wrote // 2}
    response: Any = {"id": f"resp_{number}", "object": "response", "created_at": _MADE}
    response |= {"model": model, "status": "completed", "output": [item], "usage": usage}
    response |= {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    response |= {"service_tier": "default", "error": None, "incomplete_details": None}
    return Reply(response, charge=Charge("openai", model, read, wrote))


def _output(body: Body) -> dict[str, Any]:
    if tool := _tool(body):
        call = {"id": "fc_1", "call_id": "call_1", "type": "function_call", "status": "completed"}
        return {**call, "name": tool["name"], "arguments": '{"query": "unread"}'}
    part: Any = {"type": "output_text", "text": answer_text(body), "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return {**message, "content": [part]}


def embeddings(body: Body, _number: int) -> Reply:
    """`/embeddings`, as floats, which clients read where they asked for base64 too."""
    given, model = body.get("input"), body.get("model")
    texts = cast("list[Any]", given) if isinstance(given, list) else [given]
    one = {"object": "embedding", "embedding": [0.25, -0.5, 1.0]}
    data = [{**one, "index": index} for index in range(len(texts))]
    spent = tokens(texts)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    whole = {"object": "list", "data": data, "model": model, "usage": usage}
    return Reply(whole, charge=Charge("openai", str(model), spent))


def messages(body: Body, number: int) -> Reply:
    """`/v1/messages`: text, or a call of the first tool."""
    model, block = dated(body.get("model")), _block(body)
    (fresh, cached, written), wrote = _input(body), tokens([block])
    usage: Any = {"input_tokens": fresh, "output_tokens": wrote, "service_tier": "standard"}
    usage |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
    usage["cache_creation"] = {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0}
    reason = "tool_use" if block["type"] == "tool_use" else "end_turn"
    ending = {"stop_reason": reason, "stop_sequence": None}
    head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": model}
    message = {**head, "content": [block], **ending, "usage": usage}
    charge = Charge("anthropic", model, fresh + cached + written, wrote, cached, written)
    if not body.get("stream"):
        return Reply(message, charge=charge)
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events = sse(
        {"type": "message_start", "message": begun},
        {"type": "ping"},
        *_block_events(block),
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": wrote}},
        {"type": "message_stop"},
    )
    return Reply(message, content_type=EVENTS, events=events, charge=charge)


def _block(body: Body) -> dict[str, Any]:
    if tool := _tool(body):
        call = {"type": "tool_use", "id": "toolu_1", "name": tool["name"]}
        return {**call, "input": {"query": "unread"}}
    return {"type": "text", "text": answer_text(body), "citations": None}


def _input(body: Body) -> tuple[int, int, int]:
    """Fresh, cached and written tokens: a system prompt with `cache_control` is cached."""
    fresh, system = tokens(body.get("messages")), body.get("system")
    marked = tokens(system) if system else 0
    if "cache_control" not in json.dumps(system):
        return fresh + marked, 0, 0
    return fresh, marked - marked // 4, marked // 4


def _block_events(block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        empty: dict[str, Any] = {"text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in pieces(block["text"])]
    else:
        empty = {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return [
        {"type": "content_block_start", "index": 0, "content_block": {**block, **empty}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
    ]


ENDPOINTS = {
    "/chat/completions": chat,
    "/responses": responses,
    "/embeddings": embeddings,
    "/v1/messages": messages,
}
"""By the end of the path, so that Azure's deployments are found as well."""
