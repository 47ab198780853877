"""A request's JSON as valid events: the limits of the hosted API, with its statuses.

One bad event refuses its whole batch. Unknown fields are ignored, and so are the ids of an event
where they are no text, for the hosted API doesn't read them. Every text that is stored has a limit.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any, cast

from agentpulse.server._requests import Refusal

MAX_DATA = 16_384
"""Characters of an event's data as JSON, escaped to ASCII, which no other way to count exceeds."""
MAX_SESSION = 256
"""UTF-16 units."""
MAX_NAME = 256
"""Characters of an agent's name, which is stored with each event, and of each id of an event."""

_KIND = re.compile(r"[A-Za-z0-9_]{1,64}")
_EARLIEST = 1_577_836_800.0  # 2020-01-01
_DAY = 86_400.0
_HALF_PAIR = re.compile("[\ud800-\udfff]")

Data = dict[str, Any]
IDS = ("id", "trace_id", "span_id", "parent_span_id")


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of a plan of the hosted API."""

    events_in_request: int
    events_in_a_day: int | None
    """None: as many as the disk has room for."""


FREE = Plan(events_in_request=100, events_in_a_day=5_000)
PRO = Plan(events_in_request=500, events_in_a_day=100_000)
LOCAL = Plan(events_in_request=500, events_in_a_day=None)
"""The default of the local server: requests of either plan, without a daily limit."""


@dataclass(frozen=True, slots=True)
class Event:
    """One valid event."""

    agent: str
    kind: str
    ts: float
    """Seconds since 1970."""
    data: Data
    json: str
    """The data as JSON, in ASCII."""
    session: str | None = None
    id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None


def read_batch(body: object, plan: Plan) -> list[Event]:
    """The events of an ingest request.

    Raises:
        Refusal: 400 or 413, for the whole batch, naming the first event that is wrong.
    """
    batch = _object(body, "The body")
    agent = batch.get("agent", "unknown")
    if not isinstance(agent, str) or len(agent) > MAX_NAME:
        raise Refusal(400, f"agent is not a string of at most {MAX_NAME} characters.")
    events = batch.get("events")
    if not isinstance(events, list):
        raise Refusal(400, "events is not a list.")
    events = cast("list[object]", events)
    if not events:
        raise Refusal(400, "events is empty.")
    if len(events) > plan.events_in_request:
        most = plan.events_in_request
        raise Refusal(413, f"There are {len(events)} events; at most {most} go in a request.")
    latest = time.time() + _DAY
    return [
        _event(_object(event, f"events[{index}]"), f"events[{index}]", clean(agent), latest)
        for index, event in enumerate(events)
    ]


def read_heartbeat(body: object, plan: Plan) -> list[Event]:
    """The one event of a heartbeat request: `agent`, and the data beside it.

    Raises:
        Refusal: 400 or 413.
    """
    data = dict(_object(body, "The body"))
    agent = data.pop("agent", "unknown")
    event = {"kind": "heartbeat", "ts": time.time(), "data": data}
    return read_batch({"agent": agent, "events": [event]}, plan)


def clean(text: str) -> str:
    """The text without half surrogate pairs, which JSON can spell and UTF-8 can't."""
    return _HALF_PAIR.sub("\ufffd", text)


def _event(event: Data, where: str, agent: str, latest: float) -> Event:
    kind, ts, session = event.get("kind"), event.get("ts"), event.get("session")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise Refusal(400, f"{where}.kind is not of the form [A-Za-z0-9_]{{1,64}}.")
    if isinstance(ts, bool) or not isinstance(ts, (int, float)) or not _EARLIEST <= ts <= latest:
        raise Refusal(
            400, f"{where}.ts is not a time in seconds since 1970, from 2020 to a day from now."
        )
    if session is not None and not (
        isinstance(session, str)
        and len(session.encode("utf-16-le", "surrogatepass")) // 2 <= MAX_SESSION
    ):
        raise Refusal(400, f"{where}.session is not a string of at most {MAX_SESSION} characters.")
    data = _object(event.get("data"), f"{where}.data")
    text = json.dumps(data, separators=(",", ":"))
    if len(text) > MAX_DATA:
        raise Refusal(413, f"{where}.data is longer than {MAX_DATA} characters of JSON.")
    ids = {name: _id(event, name, where) for name in IDS}
    return Event(agent, kind, float(ts), data, text, clean(session) if session else None, **ids)


def _object(value: object, where: str) -> Data:
    if not isinstance(value, dict):
        raise Refusal(400, f"{where} is not an object.")
    return cast("Data", value)


def _id(event: Data, name: str, where: str) -> str | None:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        return None
    if len(value) > MAX_NAME:
        raise Refusal(400, f"{where}.{name} is longer than {MAX_NAME} characters.")
    return clean(value)


# The data of an event may hold anything; these read a field as the type that it should have.

_TOO_MUCH = 1e12  # above it there is no usage, and sums would exceed the range of the database
_LATEST = 253_402_300_799.0  # the last second of the year 9999

Column = str | int | float | None


def number(data: Data, name: str) -> float | None:
    """An amount from 0 to a sensible one; None for everything else, which is unknown."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _TOO_MUCH else None


def instant(data: Data, name: str) -> float | None:
    """A time in seconds since 1970, as far as calendars go; None for everything else."""
    seconds = number(data, name)
    return seconds if seconds is not None and seconds <= _LATEST else None


def count(data: Data, name: str) -> int | None:
    """As `number`, a whole one."""
    value = number(data, name)
    return None if value is None else int(value)


def text(data: Data, name: str) -> str | None:
    """A text that isn't empty; None for everything else."""
    value = data.get(name)
    return clean(value) if isinstance(value, str) and value else None


def call_columns(data: Data) -> dict[str, Column]:
    """A call in the columns of the table `calls`."""
    texts = ("provider", "operation", "request_model", "error_type", "error")
    tokens = {
        name: count(data, name) for name in ("input_tokens", "output_tokens", "reasoning_tokens")
    }
    parts = (tokens["input_tokens"], tokens["output_tokens"])
    known = None if parts == (None, None) else sum(filter(None, parts))
    total, reasons = count(data, "tokens"), data.get("finish_reasons")
    reasons = cast("list[object]", reasons) if isinstance(reasons, list) else []
    return {
        **{name: text(data, name) for name in texts},
        "model": text(data, "model") or text(data, "request_model"),
        **tokens,
        "cached_tokens": count(data, "cache_read_tokens"),
        "tokens": known if total is None else total,
        **{name: number(data, name) for name in ("cost_usd", "latency_ms", "ttft_ms")},
        "failed": data.get("status") == "error",
        "estimated": data.get("estimated") is True,
        "finish_reasons": clean(", ".join(each for each in reasons if isinstance(each, str))),
    }


def session_columns(data: Data, session: str) -> dict[str, Column]:
    """The start or the end of a session in the columns of the table `sessions`."""
    parent = text(data, "parent_session")
    texts = ("label", "type", "job_name", "status", "error_type", "error")
    return {
        "session": session,
        "parent": parent if parent != session else None,
        **{name: text(data, name) for name in texts},
        "started_at": instant(data, "started_at"),
        "duration_ms": number(data, "duration_ms"),
        **{
            name: None if data.get(name) is None else json.dumps(data[name], separators=(",", ":"))
            for name in ("metadata", "result")
        },
    }


def run_columns(data: Data) -> dict[str, Column]:
    """The start or the end of a cron run in the columns of the table `runs`."""
    texts = ("run_id", "status", "summary", "error_type", "error", "schedule", "timezone")
    return {
        "job": text(data, "job") or "unknown",
        "started_at": instant(data, "started_at"),
        **{name: text(data, name) for name in texts},
        **{name: number(data, name) for name in ("duration_ms", "cost_usd", "max_runtime_s")},
        **{name: count(data, name) for name in ("tokens", "calls")},
    }
