"""Anthropic's API as far as the fake provider has it, also as Bedrock and Vertex offer it."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agentpulse.demo.provider._reply import (
    EVENTS,
    TEXT,
    THOUGHT,
    Charge,
    Reply,
    dated,
    pieces,
    sse,
    tokens,
)

Body = Mapping[str, Any]


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
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    charge = Charge("anthropic", model, fresh + cached + written, spent, cached, written)
    if not body.get("stream"):
        return Reply(message, charge=charge)
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "ping"},
        *(event for index, block in enumerate(blocks) for event in _block_events(index, block)),
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": spent}},
        {"type": "message_stop"},
    ]
    events = sse(*told, named=True)
    return Reply(message, content_type=EVENTS, events=events, charge=charge)


def _content(body: Body) -> list[dict[str, Any]]:
    tools, said = body.get("tools"), json.dumps(body.get("messages", []))
    if tools and '"tool_result"' not in said:
        call = {"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"]}
        return [{**call, "input": {"query": "unread"}}]
    is_json = bool(body.get("output_format") or body.get("output_config"))
    text = {"type": "text", "text": '{"mails": 2}' if is_json else TEXT, "citations": None}
    if body.get("thinking"):
        return [{"type": "thinking", "thinking": THOUGHT, "signature": "c2ln"}, text]
    return [text]


def _input(body: Body) -> tuple[int, int, int]:
    """Fresh, cached and written tokens: a system prompt with `cache_control` is cached."""
    fresh, system = tokens(body.get("messages")), body.get("system")
    if "cache_control" not in json.dumps(system):
        return fresh + (tokens(system) if system else 0), 0, 0
    marked = tokens(system)
    return fresh, marked - marked // 4, marked // 4


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    kind = block["type"]
    begun: dict[str, Any]
    deltas: list[dict[str, Any]]
    if kind == "text":
        begun = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in pieces(block["text"])]
    elif kind == "thinking":
        begun = {**block, "thinking": "", "signature": ""}
        deltas = [
            *({"type": "thinking_delta", "thinking": word} for word in pieces(block["thinking"])),
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    else:
        begun = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def bedrock(body: Body, number: int, model: str, *, stream: bool) -> Reply:
    """`/model/{model}/invoke` and `/model/{model}/invoke-with-response-stream`."""
    reply = messages({**body, "model": model, "stream": stream}, number)
    charge = reply.charge and replace(reply.charge, provider="aws.bedrock")
    if reply.events is None:
        return replace(reply, charge=charge)
    payloads = (event.partition(b"data: ")[2].strip() for event in reply.events)
    return replace(
        reply,
        charge=charge,
        content_type="application/vnd.amazon.eventstream",
        events=tuple(_aws_event(payload) for payload in payloads),
    )


def _aws_event(payload: bytes) -> bytes:
    """One message of AWS's event stream encoding: lengths, headers, payload, and checksums."""
    content = json.dumps({"bytes": base64.b64encode(payload).decode()}).encode()
    headers = b"".join(
        struct.pack("!B", len(name)) + name + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in (
            (b":event-type", b"chunk"),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(content), len(headers))
    prelude += struct.pack("!I", binascii.crc32(prelude))
    whole = prelude + headers + content
    return whole + struct.pack("!I", binascii.crc32(whole))


def batches(_body: Body, number: int) -> Reply:
    """`/v1/messages/batches`."""
    counts = {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    when = "2026-11-23T03:00:00Z"
    batch = {"id": f"msgbatch_{number}", "type": "message_batch", "request_counts": counts}
    status = {"processing_status": "in_progress", "created_at": when, "expires_at": when}
    unset = ("ended_at", "cancel_initiated_at", "archived_at", "results_url")
    return Reply({**batch, **status, **dict.fromkeys(unset)})


def count_tokens(body: Body, _number: int) -> Reply:
    """`/v1/messages/count_tokens`."""
    return Reply({"input_tokens": tokens(body.get("messages"))})


ROUTES: dict[tuple[str, str], Callable[[Body, int], Reply]] = {
    ("POST", "/v1/messages/batches"): batches,
    ("POST", "/v1/messages/count_tokens"): count_tokens,
    ("POST", "/v1/messages"): messages,
}
"""By method and path."""
