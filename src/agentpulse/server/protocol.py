"""A request's JSON as valid events: the limits of the hosted API, with its statuses.

One bad event refuses its whole batch. Unknown fields are ignored, and so are the id and the spans
of an event where they are no text, for the hosted API doesn't read them. Every text that is stored
has a limit.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import cast

from agentpulse.server.refusal import Refusal

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

Data = dict[str, object]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the hosted API limits by plan."""

    events_in_request: int
    events_in_a_day: int | None
    """None: as many as the disk has room for."""


FREE = Plan(events_in_request=100, events_in_a_day=5_000)
PRO = Plan(events_in_request=500, events_in_a_day=100_000)
LOCAL = Plan(events_in_request=500, events_in_a_day=None)
"""What the local server takes unless told otherwise: requests of either plan, without an end."""


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
    id: str | None = None
    session: str | None = None
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
        _event(_object(event, f"events[{place}]"), f"events[{place}]", clean(agent), latest)
        for place, event in enumerate(events)
    ]


def read_heartbeat(body: object) -> Event:
    """The event of a heartbeat request: `agent`, and the data beside it.

    Raises:
        Refusal: 400 or 413.
    """
    data = dict(_object(body, "The body"))
    agent = data.pop("agent", "unknown")
    now = time.time()
    (event,) = read_batch(
        {"agent": agent, "events": [{"kind": "heartbeat", "ts": now, "data": data}]}, LOCAL
    )
    return event


def clean(text: str) -> str:
    """The text without half surrogate pairs, which JSON can spell and UTF-8 can't."""
    return _HALF_PAIR.sub("\ufffd", text)


def _event(event: Data, place: str, agent: str, latest: float) -> Event:
    kind, ts, session = event.get("kind"), event.get("ts"), event.get("session")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise Refusal(400, f"{place}.kind is not of the form [A-Za-z0-9_]{{1,64}}.")
    if isinstance(ts, bool) or not isinstance(ts, (int, float)) or not _EARLIEST <= ts <= latest:
        raise Refusal(
            400, f"{place}.ts is not a time in seconds since 1970, from 2020 to a day from now."
        )
    if session is not None and not (
        isinstance(session, str) and _utf16_length(session) <= MAX_SESSION
    ):
        raise Refusal(400, f"{place}.session is not a string of at most {MAX_SESSION} characters.")
    data = _object(event.get("data"), f"{place}.data")
    text = json.dumps(data, separators=(",", ":"))
    if len(text) > MAX_DATA:
        raise Refusal(413, f"{place}.data is longer than {MAX_DATA} characters of JSON.")
    return Event(
        agent=agent,
        kind=kind,
        ts=float(ts),
        data=data,
        json=text,
        id=_id(event, "id", place),
        session=clean(session) if session else None,
        trace_id=_id(event, "trace_id", place),
        span_id=_id(event, "span_id", place),
        parent_span_id=_id(event, "parent_span_id", place),
    )


def _object(value: object, what: str) -> Data:
    if not isinstance(value, dict):
        raise Refusal(400, f"{what} is not an object.")
    return cast("Data", value)


def _utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _id(event: Data, name: str, place: str) -> str | None:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        return None
    if len(value) > MAX_NAME:
        raise Refusal(400, f"{place}.{name} is longer than {MAX_NAME} characters.")
    return clean(value)
