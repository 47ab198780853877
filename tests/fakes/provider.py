"""The demo's fake provider with all the endpoints that tests call, and the ways in which it fails.

Beside the demo's: streamed responses, legacy completions, images, audio, moderations, models,
batches, token counts, and Anthropic as Bedrock and Vertex offer it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from agentpulse.demo import _answers as demo
from agentpulse.demo._answers import (
    EVENTS,
    JSON,
    TEXT,
    Body,
    chat,
    dated,
    messages,
    pieces,
    sse,
    tokens,
)
from agentpulse.demo.provider import Change, Charge, Reply, Request, fails
from agentpulse.demo.provider import FakeProvider as DemoProvider

__all__ = ["EVENTS", "JSON", "TEXT", "Change", "Charge", "FakeProvider", "Reply",
    "Request", "answers", "broken", "chat", "cut", "ended", "fails", "held_by", "is_no_json", "sse",
    "without_usage"]  # fmt: skip

_SECONDS_AT_A_GATE = 10.0


class FakeProvider(DemoProvider):
    """The demo's, with more endpoints."""

    def reply(self, request: Request, number: int) -> Reply:
        path, body = request.path.partition("?")[0], request.body or {}
        for method, pattern, endpoint in ENDPOINTS:
            if request.method == method and (found := re.search(pattern, path)):
                return endpoint({**body, **found.groupdict()}, number)
        return super().reply(request, number)


def responses(body: Body, number: int) -> Reply:
    """`/responses`."""
    reply = demo.responses(body, number)
    response: Any = reply.body
    if not body.get("stream"):
        return reply
    (item,) = response["output"]
    empty: dict[str, Any] = {"content": []} if "content" in item else {"arguments": ""}
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    begun_item = {**item, **empty, "status": "in_progress"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": begun_item},
        *_item_events(item),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    numbered = ({**event, "sequence_number": n} for n, event in enumerate(events))
    return replace(reply, content_type=EVENTS, events=sse(*numbered))


def _item_events(item: dict[str, Any]) -> list[dict[str, Any]]:
    at = {"item_id": item["id"], "output_index": 0}
    if "arguments" in item:
        kind, arguments = "response.function_call_arguments", item["arguments"]
        return [
            {**at, "type": f"{kind}.delta", "delta": arguments},
            {**at, "type": f"{kind}.done", "name": item["name"], "arguments": arguments},
        ]
    at["content_index"] = 0
    (part,) = item["content"]
    return [
        {**at, "type": "response.content_part.added", "part": {**part, "text": ""}},
        *(
            {**at, "type": "response.output_text.delta", "delta": word, "logprobs": []}
            for word in pieces(part["text"])
        ),
        {**at, "type": "response.output_text.done", "text": part["text"], "logprobs": []},
        {**at, "type": "response.content_part.done", "part": part},
    ]


def groq_chat(body: Body, number: int) -> Reply:
    """Groq's chat: the last chunk of a stream has the usage without being asked for it."""
    reply = chat({**body, "stream_options": None}, number)
    whole: Any = reply.body
    known = {name: value for name, value in whole.items() if name != "service_tier"}
    plain = replace(reply, body={**known, "x_groq": {"id": f"req_{number}"}})
    if reply.events is None:
        return plain
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in [*reply.events][:-1]]
    for chunk in chunks:
        del chunk["service_tier"]
    chunks[0]["x_groq"] = {"id": f"req_{number}"}
    chunks[-1]["x_groq"] = {"id": f"req_{number}", "usage": whole["usage"]}
    return replace(plain, events=sse(*chunks, done=True))


def fetch(_body: Body, number: int) -> Reply:
    """`GET /responses/{id}`: costs nothing."""
    return Reply(demo.responses({"model": "gpt-4o", "input": "?"}, number).body)


def compact(body: Body, number: int) -> Reply:
    """`/responses/compact`."""
    spent_in, model = tokens(body.get("input")), dated(body.get("model"))
    usage = {
        "input_tokens": spent_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent_in + 9,
    }
    item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "x"}
    head = {"id": f"resp_{number}", "object": "response.compaction", "created_at": 1}
    whole = {**head, "output": [item], "usage": usage}
    return Reply(whole, charge=Charge("openai", model, spent_in, 9))


def completions(body: Body, number: int) -> Reply:
    """`/completions`, the legacy API."""
    model = dated(body.get("model"))
    spent_in, spent_out = tokens(body.get("prompt")), tokens(TEXT)
    usage = {
        "prompt_tokens": spent_in,
        "completion_tokens": spent_out,
        "total_tokens": spent_in + spent_out,
    }
    head = {"id": f"cmpl-{number}", "object": "text_completion", "created": 1, "model": model}

    def choice(text: str, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}

    charge = Charge("openai", model, spent_in, spent_out)
    whole = {**head, "choices": [choice(TEXT, "stop")], "usage": usage}
    if not body.get("stream"):
        return Reply(whole, charge=charge)
    chunks: list[dict[str, Any]] = [{"choices": [choice(word, None)]} for word in pieces(TEXT)]
    chunks.append({"choices": [choice("", "stop")]})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({"choices": [], "usage": usage})
    events = sse(*({**head, **chunk} for chunk in chunks), done=True)
    return Reply(whole, content_type=EVENTS, events=events, charge=charge)


def images(_body: Body, _number: int) -> Reply:
    """`/images/generations`, `/images/edits` and `/images/variations`."""
    details = {"text_tokens": 12, "image_tokens": 0}
    usage = {
        "input_tokens": 12,
        "input_tokens_details": details,
        "output_tokens": 1056,
        "total_tokens": 1068,
    }
    return Reply(
        {"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage},
        charge=Charge("openai", "gpt-image-1", 12, 1056),
    )


def transcriptions(_body: Body, _number: int) -> Reply:
    """`/audio/transcriptions` and `/audio/translations`."""
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 5,
        "total_tokens": 19,
    }
    return Reply({"text": "Hello.", "usage": usage}, charge=Charge("openai", "audio", 14, 5))


def speech(_body: Body, _number: int) -> Reply:
    """`/audio/speech`: bytes."""
    return Reply(b"ID3-fake-audio", content_type="audio/mpeg")


def moderations(body: Body, number: int) -> Reply:
    """`/moderations`."""
    result: dict[str, Any] = {"flagged": False, "categories": {}, "category_scores": {}}
    model = body.get("model") or "omni-moderation-latest"
    return Reply({"id": f"modr-{number}", "model": model, "results": [result]})


def models(_body: Body, _number: int) -> Reply:
    """`GET /models`."""
    one = {"id": "gpt-4o", "object": "model", "created": 1, "owned_by": "openai"}
    return Reply({"object": "list", "data": [one]})


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


def bedrock(body: Body, number: int) -> Reply:
    """`/model/{model}/invoke` and `/model/{model}/invoke-with-response-stream`."""
    reply = messages(body, number)
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


ENDPOINTS: tuple[tuple[str, str, Callable[[Body, int], Reply]], ...] = (
    ("POST", r"^/model/(?P<model>.+)/invoke(?P<stream>-with-response-stream)?$", bedrock),
    ("POST", r"/publishers/anthropic/models/(?P<model>[^:]+):(stream)?[rR]aw", messages),
    ("POST", r"^/v1/messages/batches$", batches),
    ("POST", r"^/v1/messages/count_tokens$", count_tokens),
    ("GET", r"/responses/resp_\w+$", fetch),
    ("POST", r"/responses/compact$", compact),
    ("POST", r"/responses$", responses),
    ("POST", r"^/openai/v1/chat/completions$", groq_chat),
    ("POST", r"(?<!/chat)/completions$", completions),
    ("POST", r"/images/(generations|edits|variations)$", images),
    ("POST", r"/audio/(transcriptions|translations)$", transcriptions),
    ("POST", r"/audio/speech$", speech),
    ("POST", r"/moderations$", moderations),
    ("GET", r"/models$", models),
)
"""Named groups of the path are fields of the body."""


# Scripts: what goes wrong with an answer.


def is_no_json(_reply: Reply) -> Reply:
    """A web page with status 200, as from a captive portal."""
    return Reply(b"<html>Please log in.</html>", content_type="text/html")


def without_usage(reply: Reply) -> Reply:
    """A plain answer without usage."""
    body = {n: value for n, value in json.loads(reply.encoded()).items() if n != "usage"}
    return replace(reply, body=body, charge=None)


def _first(number: int, events: Iterable[bytes] | None) -> tuple[bytes, ...]:
    return tuple(islice(events or (), number))


def cut(after: int) -> Change:
    """The connection is lost after so many events of a stream."""

    def lost(events: Iterable[bytes] | None) -> Iterator[bytes]:
        yield from _first(after, events)
        raise ConnectionAbortedError

    return lambda reply: replace(reply, events=lost(reply.events), charge=None)


def ended(after: int) -> Change:
    """The stream ends in good order after so many events, but before the answer is over."""
    return lambda reply: replace(reply, events=_first(after, reply.events), charge=None)


def broken(after: int, kind: str = "overloaded_error") -> Change:
    """After so many events comes one that reports an error; it has a name where they have one."""
    error = {"type": kind, "code": kind, "message": "Overloaded."}

    def change(reply: Reply) -> Reply:
        events = _first(after, reply.events)
        named = {"type": "error"} if events and events[0].startswith(b"event:") else {}
        return replace(reply, events=events + sse({**named, "error": error}), charge=None)

    return change


def held_by(gate: threading.Semaphore) -> Change:
    """Each event waits for a permit (10 seconds at most), so that a test sees who asks for it."""

    def held(events: Iterable[bytes] | None) -> Iterator[bytes]:
        for event in events or ():
            gate.acquire(timeout=_SECONDS_AT_A_GATE)
            yield event

    return lambda reply: replace(reply, events=held(reply.events))


def answers(body: Mapping[str, Any]) -> Change:
    """This JSON, whatever the request."""
    return lambda _reply: Reply(body)
