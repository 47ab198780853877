"""The endpoint of Anthropic that the fake provider has: requests in, replies out."""

from __future__ import annotations

import json
from typing import Any

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

THOUGHT = "The user wants a summary; nothing urgent is in the list."


def messages(body: Body, number: int) -> Reply:
    """`/v1/messages`: text, after thoughts where asked for, or a call of the first tool."""
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
    text = {"type": "text", "text": answer_text(body), "citations": None}
    if body.get("thinking"):
        return [{"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"}, text]
    return [text]


def _input(body: Body) -> tuple[int, int, int]:
    """Fresh, cached and written tokens: a system prompt with `cache_control` is cached."""
    fresh, system = tokens(body.get("messages")), body.get("system")
    marked = tokens(system) if system else 0
    if "cache_control" not in json.dumps(system):
        return fresh + marked, 0, 0
    return fresh, marked - marked // 4, marked // 4


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    kind = block["type"]
    if kind == "text":
        empty: dict[str, Any] = {"text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in pieces(block["text"])]
    elif kind == "thinking":
        empty = {"thinking": "", "signature": ""}
        deltas = [
            *({"type": "thinking_delta", "thinking": word} for word in pieces(block["thinking"])),
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    else:
        empty = {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return [
        {"type": "content_block_start", "index": index, "content_block": {**block, **empty}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]
