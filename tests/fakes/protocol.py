"""A strict reading of the ingest protocol: what a batch has that it doesn't allow.

The hosted API ignores what it doesn't know; this refuses it where the type of a known field is
wrong, a field that a kind must have is missing, or a kind isn't known at all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

_EARLIEST = 1_577_836_800.0
_HEAD = {"kind", "ts", "id", "trace_id", "span_id", "parent_span_id", "session", "data"}

Text = (str,)
Number = (int, float)
Maybe = (type(None),)
_STATUS = re.compile("success|error")
_SPAN_KIND = {"name": Text, "span_kind": Text, "started_at": Number}
_OUTCOME = {"status": _STATUS, "error_type": (*Text, *Maybe)}
_TOKENS = dict.fromkeys(("input_tokens", "output_tokens", "tokens"), (int, *Maybe))

REQUIRED: dict[str, dict[str, Any]] = {
    "llm_call": {
        "name": Text,
        "operation": (*Text, *Maybe),
        "provider": (*Text, *Maybe),
        "model": (*Text, *Maybe),
        "request_model": (*Text, *Maybe),
        "response_id": (*Text, *Maybe),
        **_TOKENS,
        "cache_read_tokens": (int, *Maybe),
        "cache_write_tokens": (int, *Maybe),
        "reasoning_tokens": (int, *Maybe),
        "cost_usd": (*Number, *Maybe),
        "latency_ms": Number,
        "ttft_ms": (*Number, *Maybe),
        "streaming": (bool,),
        **_OUTCOME,
        "finish_reasons": (list, *Maybe),
        "started_at": Number,
    },
    "cost": {**_TOKENS, "cost_usd": (*Number, *Maybe), "calls": (int,)},
    "session": {
        "action": re.compile("start|end"),
        "label": Text,
        "type": re.compile("session|cron"),
        "metadata": (dict,),
        "started_at": Number,
    },
    "cron": {
        "job": Text,
        "status": re.compile("ok|fail"),
        "duration_ms": Number,
        "started_at": Number,
        "error_type": (*Text, *Maybe),
        "summary": (*Text, *Maybe),
        "run_id": Text,
        **_TOKENS,
        "cost_usd": (*Number, *Maybe),
        "calls": (int,),
    },
    "span_start": _SPAN_KIND,
    "span_end": {**_SPAN_KIND, **_OUTCOME, "duration_ms": Number, "attributes": (dict,)},
    "event": {"name": Text},
    "metric": {"name": Text, "value": Number, "tags": (dict,)},
    "alert": {"title": Text, "message": Text, "severity": Text},
    "heartbeat": {"active_sessions": (int,), "uptime_s": Number},
    "memory": {"file": Text, "size_bytes": (int,)},
    "transcript": {"messages": (list,)},
    "error": {"error_type": Text, "where": re.compile("main|thread|asyncio")},
    "sdk_init": {
        "python": Text,
        "os": Text,
        "architecture": Text,
        "sdk_version": Text,
        "program": Text,
        "heartbeat_interval": Number,
    },
}
_OPTIONAL: dict[str, dict[str, Any]] = {
    "session": {
        **_OUTCOME,
        **_TOKENS,
        "job_name": Text,
        "duration_ms": Number,
        "logs": (list,),
        "calls": (int,),
        "cost_usd": (*Number, *Maybe),
        "parent_session": Text,
    },
    "cron": {"schedule": Text, "timezone": Text, "max_runtime_s": Number, "error": Text},
    "memory": {"lines": (int,)},
    "llm_call": {"error": Text, "messages": (list,), "metadata": (dict,), "user": Text},
    "error": {"error": Text},
}


def complaints(body: dict[str, Any]) -> list[str]:
    """What is wrong with a request's body, a sentence each."""
    return list(_complaints(body))


def _complaints(body: dict[str, Any]) -> Iterator[str]:
    for name in ("agent", "sdk_version", "batch_id"):
        if not isinstance(body.get(name), str) or not body[name]:
            yield f"{name} is {body.get(name)!r}"
    ids = [event.get("id") for event in body["events"]]
    if len(set(ids)) < len(ids):
        yield f"an id comes twice in a batch: {sorted(map(str, ids))}"
    for event in body["events"]:
        yield from _of_event(event)


def _of_event(event: dict[str, Any]) -> Iterator[str]:
    kind = event.get("kind")
    if kind not in REQUIRED:
        yield f"unknown kind {kind!r}"
        return
    for complaint in (*_of_head(event), *_of_data(kind, event["data"])):
        yield f"{kind} has {complaint}"


def _of_head(event: dict[str, Any]) -> Iterator[str]:
    if event.keys() - _HEAD:
        yield f"{event.keys() - _HEAD}"
    ts = event.get("ts")
    if not isinstance(ts, (int, float)) or not _EARLIEST <= ts <= time.time() + 86_400:
        yield f"ts {ts!r}"
    for name, digits in (("trace_id", 32), ("span_id", 16), ("parent_span_id", 16)):
        value = event.get(name, "0" * digits)
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
            yield f"{name} {value!r}"
    if not isinstance(event.get("id"), str) or not event["id"]:
        yield f"id {event.get('id')!r}"


def _of_data(kind: str, data: dict[str, Any]) -> Iterator[str]:
    required, optional = REQUIRED[kind], _OPTIONAL.get(kind, {})
    for name in required.keys() - data.keys():
        yield f"no {name}"
    for name, wanted in {**optional, **required}.items():
        if name in data and not _fits(data[name], wanted):
            yield f"{name} {data[name]!r}"
    if any(set(message) != {"role", "content"} for message in data.get("messages") or ()):
        yield f"messages {data['messages']!r}"


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.fullmatch(value) is not None
    if isinstance(value, bool):
        return bool in wanted
    return isinstance(value, wanted)
