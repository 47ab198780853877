"""What a program reported, with all that is another one in each run made the same."""

from __future__ import annotations

import json
import re
from typing import Any

Fields = dict[str, Any]

_TIMES = {"ts", "started_at", "duration_ms", "latency_ms", "ttft_ms"}
_IDS = {"run_id", "parent_session", "response_id"}
_NAMES = ("name", "label", "job", "title")
# `mail:3ea5b90c9f0b` of a session, `resp_9` and `chatcmpl-1` of an answer.
_COUNTED = re.compile(r"(:\w+|[-_]\d+)$")


def without_what_differs(events: list[dict[str, Any]]) -> list[Fields]:
    """Each event as its fields, in an order that doesn't depend on when it came.

    The ids of spans become the names on the way to them, those of traces the names of their roots,
    other ids what they begin with; of a time stays only that there is one, and of the tracer
    provider only its class, for it is made by the one way or by the other. Of the program, too,
    stays only that it is reported, for each way is one of its own.
    """
    paths = _paths(events)
    roots = {
        event["trace_id"]: paths[event["span_id"]][0] for event in events if "span_id" in event
    }
    reported = [
        {
            "kind": event["kind"],
            "session": _same("run_id", event.get("session")),
            "trace": roots.get(event.get("trace_id")),
            "parent": paths.get(event.get("parent_span_id")),
            "span": paths.get(event.get("span_id")),
            **{f"data.{name}": _same(name, value) for name, value in event["data"].items()},
        }
        for event in events
    ]
    return sorted(reported, key=lambda fields: json.dumps(fields, sort_keys=True))


def _paths(events: list[dict[str, Any]]) -> dict[str | None, tuple[str, ...]]:
    spans = {event["span_id"]: event for event in events if "span_id" in event}

    def path(span: str | None) -> tuple[str, ...]:
        if span is None:
            return ()
        event = spans.get(span, {"kind": "not told", "data": {}})
        names = [event["data"][name] for name in _NAMES if name in event["data"]]
        return (*path(event.get("parent_span_id")), names[0] if names else event["kind"])

    return {span: path(span) for span in spans}


def _same(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _same(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_same(name, inner) for inner in value]
    if name == "tracer_provider":
        return value.rpartition("(")[2].removesuffix(")")
    if name == "program":
        return "a program"
    if name in _TIMES and value is not None:
        return "a time"
    return _COUNTED.sub("", value) if name in _IDS and value is not None else value
