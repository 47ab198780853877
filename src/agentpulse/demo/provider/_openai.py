"""The endpoints of OpenAI that the fake provider has: requests in, replies out."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any, cast

from agentpulse.demo.provider._reply import (
    EVENTS,
    Body,
    Charge,
    Reply,
    answer_text,
    dated,
    pieces,
    sse,
    tokens,
)


def chat(body: Body, number: int) -> Reply:
    """`/chat/completions`: text, or a call of the first tool where none was answered yet."""
    model, count = dated(body.get("model", "gpt-4o")), body.get("n") or 1
    messages = body.get("messages", [])
    message, reason = _message(body, messages)
    spent_in, spent_out = tokens(messages), tokens(message) * count
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
    choices = [
        {"index": index, "finish_reason": reason, "logprobs": None, "message": message}
        for index in range(count)
    ]
    whole = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
    if not body.get("stream"):
        return Reply(whole, charge=charge)
    chunks = [
        {"choices": [{"index": index, "delta": delta, "finish_reason": end}]}
        for index in range(count)
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
