"""A request's JSON as valid events: the limits of the hosted API, with its statuses.

One bad event refuses its whole batch. Unknown fields are ignored, and so are the ids of an event
where they are no text, for the hosted API doesn't read them. Every text that is stored has a limit.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard, cast

from agentpulse.server._requests import Refusal

MAX_BATCH = 500
"""Events in a request: what the larger plan of the hosted API takes."""
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


class Event(NamedTuple):
    """One valid event: a row of the table `events`, and its data as they were read."""

    agent: str
    kind: str
    ts: float
    """Seconds since 1970."""
    session: str | None
    fields: Data
    data: str
    """The fields as JSON, in ASCII."""
    id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None


def read_batch(body: object) -> list[Event]:
    """The events of an ingest request.

    Raises:
        Refusal: 400 or 413, for the whole batch, naming the first event that is wrong.
    """
    batch = _object(body, "The body")
    agent, events = batch.get("agent", "unknown"), batch.get("events")
    if not isinstance(agent, str) or len(agent) > MAX_NAME:
        raise Refusal(400, f"agent is not a string of at most {MAX_NAME} characters.")
    if not isinstance(events, list) or not events:
        raise Refusal(400, "events is not a list with at least one event.")
    events = cast("list[object]", events)
    if len(events) > MAX_BATCH:
        message = f"There are {len(events)} events; at most {MAX_BATCH} go in a request."
        raise Refusal(413, message)
    agent, latest = clean(agent), time.time() + _DAY
    return [_event(event, f"events[{index}]", agent, latest) for index, event in enumerate(events)]


def read_heartbeat(body: object) -> list[Event]:
    """The one event of a heartbeat request: `agent`, and the data beside it.

    Raises:
        Refusal: 400 or 413.
    """
    data = dict(_object(body, "The body"))
    agent = data.pop("agent", "unknown")
    event = {"kind": "heartbeat", "ts": time.time(), "data": data}
    return read_batch({"agent": agent, "events": [event]})


def clean(text: str) -> str:
    """The text without half surrogate pairs, which JSON can spell and UTF-8 can't."""
    return _HALF_PAIR.sub("\ufffd", text)


def _event(sent: object, where: str, agent: str, latest: float) -> Event:
    event = _object(sent, where)
    kind, ts, session = event.get("kind"), event.get("ts"), event.get("session")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise Refusal(400, f"{where}.kind is not of the form [A-Za-z0-9_]{{1,64}}.")
    if not _is_number(ts) or not _EARLIEST <= ts <= latest:
        expected = "a time in seconds since 1970, from 2020 to a day from now"
        raise Refusal(400, f"{where}.ts is not {expected}.")
    if session is not None and not (isinstance(session, str) and _units(session) <= MAX_SESSION):
        raise Refusal(400, f"{where}.session is not a string of at most {MAX_SESSION} characters.")
    fields = _object(event.get("data"), f"{where}.data")
    data = _json(fields)
    if len(data) > MAX_DATA:
        raise Refusal(413, f"{where}.data is longer than {MAX_DATA} characters of JSON.")
    ids = {name: text(event, name) for name in IDS}
    for name, value in ids.items():
        if value is not None and len(value) > MAX_NAME:
            raise Refusal(400, f"{where}.{name} is longer than {MAX_NAME} characters.")
    return Event(agent, kind, float(ts), text(event, "session"), fields, data, **ids)


def _object(value: object, where: str) -> Data:
    if not isinstance(value, dict):
        raise Refusal(400, f"{where} is not an object.")
    return cast("Data", value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


# The data of an event may hold anything; these read a field as the type that it should have.

_TOO_MUCH = 1e12  # above it there is no usage, and sums would exceed the range of the database
_LATEST = 253_402_300_799.0  # the last second of the year 9999


def number(data: Data, name: str) -> float | None:
    """An amount from 0 to a sensible one; None for everything else, which is unknown."""
    value = data.get(name)
    return float(value) if _is_number(value) and 0 <= value <= _TOO_MUCH else None


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


def encoded(data: Data, name: str) -> str | None:
    """Any value as JSON; None for null."""
    value = data.get(name)
    return None if value is None else _json(value)


_Fields = Mapping[Callable[[Data, str], object], str]
"""Names of fields, by the function that reads them."""

_CALL: _Fields = {
    text: "provider operation model request_model error_type error",
    count: "input_tokens output_tokens reasoning_tokens tokens",
    number: "cost_usd latency_ms ttft_ms",
}
_SESSION: _Fields = {
    text: "label type job_name status error_type error",
    instant: "started_at",
    number: "duration_ms",
    encoded: "metadata result",
}
_RUN: _Fields = {
    text: "job run_id status summary error_type error schedule timezone",
    instant: "started_at",
    number: "duration_ms cost_usd max_runtime_s",
    count: "tokens calls",
}


def call_columns(data: Data) -> Data:
    """A call in the columns of the table `calls`."""
    row = _read(data, _CALL)
    parts = [row[name] for name in ("input_tokens", "output_tokens") if row[name] is not None]
    if row["tokens"] is None and parts:
        row["tokens"] = sum(parts)
    reasons = data.get("finish_reasons")
    reasons = cast("list[object]", reasons) if isinstance(reasons, list) else []
    return {
        **row,
        "model": row["model"] or row["request_model"],
        "cached_tokens": count(data, "cache_read_tokens"),
        "failed": data.get("status") == "error",
        "estimated": data.get("estimated") is True,
        "finish_reasons": clean(", ".join(each for each in reasons if isinstance(each, str))),
    }


def session_columns(data: Data, session: str) -> Data:
    """The start or the end of a session in the columns of the table `sessions`."""
    parent = text(data, "parent_session")
    parent = parent if parent != session else None
    return {**_read(data, _SESSION), "session": session, "parent": parent}


def run_columns(data: Data) -> Data:
    """The start or the end of a cron run in the columns of the table `runs`."""
    row = _read(data, _RUN)
    return {**row, "job": row["job"] or "unknown"}


def _read(data: Data, fields: _Fields) -> Data:
    return {name: read(data, name) for read, names in fields.items() for name in names.split()}
