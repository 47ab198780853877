"""OpenAI's API as far as the fake provider has it: requests in, replies out."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from agentpulse.demo.provider._reply import EVENTS, TEXT, Charge, Reply, dated, pieces, sse, tokens

Body = Mapping[str, Any]


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
    if _inside(body, "stream_options", "include_usage"):
        chunks = [{**chunk, "usage": None} for chunk in chunks] + [{"choices": [], "usage": usage}]
    head["object"] = "chat.completion.chunk"
    events = sse(*({**head, **chunk} for chunk in chunks), done=True)
    return Reply(whole, content_type=EVENTS, events=events, charge=charge)


def groq_chat(body: Body, number: int) -> Reply:
    """Groq's chat: the last chunk of a stream has the usage without being asked for it."""
    reply = chat({**body, "stream_options": None}, number)
    whole: Any = reply.body
    known = {name: value for name, value in whole.items() if name != "service_tier"}
    plain = replace(reply, body={**known, "x_groq": {"id": f"req_{number}"}})
    if reply.events is None:
        return plain
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in reply.events[:-1]]
    for chunk in chunks:
        del chunk["service_tier"]
    chunks[0]["x_groq"] = {"id": f"req_{number}"}
    chunks[-1]["x_groq"] = {"id": f"req_{number}", "usage": whole["usage"]}
    return replace(plain, events=sse(*chunks, done=True))


def _message(body: Body, messages: list[Any]) -> tuple[dict[str, Any], str]:
    tools, answered = body.get("tools"), any(said.get("role") == "tool" for said in messages)
    if tools and not answered:
        function = {"name": tools[0]["function"]["name"], "arguments": '{"query": "unread"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
        return message, "tool_calls"
    is_json = _inside(body, "response_format", "type") in ("json_object", "json_schema")
    said = '{"mails": 2}' if is_json else TEXT
    return {"role": "assistant", "content": said, "refusal": None}, "stop"


def _inside(body: Body, *path: str) -> Any:
    found: Any = body
    for name in path:
        found = found.get(name) if found else None
    return found


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
    if _inside(body, "stream_options", "include_usage"):
        chunks.append({"choices": [], "usage": usage})
    events = sse(*({**head, **chunk} for chunk in chunks), done=True)
    return Reply(whole, content_type=EVENTS, events=events, charge=charge)


def responses(body: Body, number: int) -> Reply:
    """`/responses`."""
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
    charge = Charge("openai", model, spent_in, spent_out)
    if not body.get("stream"):
        return Reply(response, charge=charge)
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": _begun(item)},
        *_item_events(item),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    events = sse(*({**e, "sequence_number": n} for n, e in enumerate(told)), named=True)
    return Reply(response, content_type=EVENTS, events=events, charge=charge)


def _output(body: Body) -> dict[str, Any]:
    asked, tools = json.dumps(body.get("input")), body.get("tools")
    answered = '"function_call_output"' in asked
    if tools and not answered:
        call = {"id": "fc_1", "call_id": "call_1", "type": "function_call", "status": "completed"}
        return {**call, "name": tools[0]["name"], "arguments": '{"query": "unread"}'}
    is_json = _inside(body, "text", "format", "type") == "json_schema"
    part: dict[str, Any] = {
        "type": "output_text",
        "text": '{"mails": 2}' if is_json else TEXT,
        "annotations": [],
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return {**message, "content": [part]}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"content": []} if "content" in item else {"arguments": ""}
    return {**item, **empty, "status": "in_progress"}


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


def fetch(_body: Body, number: int) -> Reply:
    """`GET /responses/{id}`: costs nothing."""
    reply = responses({"model": "gpt-4o", "input": "?"}, number)
    return Reply(reply.body)


def embeddings(body: Body, _number: int) -> Reply:
    """`/embeddings`, as floats or in base64."""
    given, model = body.get("input"), body.get("model")
    texts = cast("list[Any]", given) if isinstance(given, list) else [given]
    vector = [0.25, -0.5, 1.0]
    packed: Any = vector
    if body.get("encoding_format") == "base64":
        packed = base64.b64encode(struct.pack("<3f", *vector)).decode()
    data = [
        {"object": "embedding", "index": index, "embedding": packed} for index in range(len(texts))
    ]
    spent = tokens(texts)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    whole = {"object": "list", "data": data, "model": model, "usage": usage}
    return Reply(whole, charge=Charge("openai", str(model), spent))


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


ROUTES: dict[tuple[str, str], Callable[[Body, int], Reply]] = {
    ("POST", "/openai/v1/chat/completions"): groq_chat,
    ("POST", "/chat/completions"): chat,
    ("POST", "/completions"): completions,
    ("POST", "/responses/compact"): compact,
    ("POST", "/responses"): responses,
    ("POST", "/embeddings"): embeddings,
    ("POST", "/images/generations"): images,
    ("POST", "/images/edits"): images,
    ("POST", "/images/variations"): images,
    ("POST", "/audio/transcriptions"): transcriptions,
    ("POST", "/audio/translations"): transcriptions,
    ("POST", "/audio/speech"): speech,
    ("POST", "/moderations"): moderations,
    ("GET", "/models"): models,
}
"""By method and the end of the path, so that Azure's deployments are found as well."""
