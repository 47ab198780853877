"""An event as it goes out: valid, encoded once, with an id that never changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import text
from agentpulse_exporter._wire.limits import MAX_LABEL, clean, fit, plain, session_key, timestamp


@dataclass(frozen=True, slots=True)
class Head:
    """Everything of an event but its data. What is None is left out on the wire."""

    kind: str
    ts: float
    id: str
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    session: str | None = None

    def json(self) -> str:
        """The head as a JSON object."""
        fields = (
            ("kind", self.kind),
            ("ts", self.ts),
            ("id", self.id),
            ("trace_id", self.trace_id),
            ("span_id", self.span_id),
            ("parent_span_id", self.parent_span_id),
            ("session", self.session),
        )
        return json.dumps({name: value for name, value in fields if value is not None})


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        head: Its kind, time, id and place.
        data: What it tells, as it is sent.
        json: The whole event as JSON, in ASCII, so that its length is its size.
        spans: How many ended spans it stands for: 1, or 0 for what is only a sum of others.
    """

    head: Head
    data: dict[str, object]
    json: str
    spans: int

    def trimmed(self) -> Event | None:
        """The event with its texts cut to a quarter of its size; None if that can't be done."""
        return event(self.head, self.data, spans=self.spans, limit=len(self.json) // 4)


def event(
    head: Head, data: dict[str, object], *, spans: int = 1, limit: int | None = None
) -> Event | None:
    """The event of data that is plain already, made to fit; None if nothing makes it fit."""
    fitted = fit(data) if limit is None else fit(data, limit)
    if fitted is None:
        return None
    kept, text = fitted
    return Event(head, kept, f'{head.json()[:-1]}, "data": {text}}}', spans)


# What every event tells of its span, whatever its kind: its place, its time, its outcome.

Attributes = Mapping[str, object]
Data = dict[str, object]

_CARRIED = {semconv.USER_ID: "user", semconv.CALLED_IN_AGENT: "agent"}
_OF_SESSION = (semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS)


def head(kind: str, span: ReadableSpan, attributes: Attributes) -> Head:
    """The head of an event of this kind; its time is the span's end, or its start so far."""
    context, session = span.context, text(attributes, semconv.SESSION_ID)
    span_id = format_span_id(context.span_id) if context is not None else "0" * 16
    return Head(
        kind=kind,
        ts=timestamp(times(span)[1]),
        # A span's id alone repeats in programs that seed `random`, which is where the SDK takes it
        # from.
        id=f"{span_id}-{span.start_time or 0:x}-{kind}",
        trace_id=None if context is None else format_trace_id(context.trace_id),
        span_id=None if context is None else span_id,
        parent_span_id=None if span.parent is None else format_span_id(span.parent.span_id),
        session=session and session_key(session),
    )


def times(span: ReadableSpan) -> tuple[float, float]:
    """When it started and ended, in seconds since 1970; an open span ends at its start."""
    started = (span.start_time or 0) / 1e9
    return started, started if span.end_time is None else span.end_time / 1e9


def milliseconds(seconds: float) -> float:
    """The time as events tell it; a clock that was set back meanwhile makes no negative one."""
    return round(max(seconds, 0.0) * 1000, 3)


def label(attributes: Attributes, name: str) -> str | None:
    """A text that names something, made fit to send."""
    value = text(attributes, name)
    return value and clean(value, MAX_LABEL)


def outcome(span: ReadableSpan, attributes: Attributes, *, capture_messages: bool) -> Data:
    """How it went. Exceptions echo what was said to them, so their text is content."""
    error_type = label(attributes, semconv.ERROR_TYPE)
    failed = span.status.status_code is StatusCode.ERROR or error_type is not None
    told: Data = {"status": "error" if failed else "success", "error_type": error_type}
    if capture_messages and failed and span.status.description:
        told["error"] = clean(span.status.description)
    return told


def carried(attributes: Attributes) -> Data:
    """Whose it was: user, agent and metadata of the session around it, where there are any."""
    told: Data = {
        field: label(attributes, name) for name, field in _CARRIED.items() if name in attributes
    }
    metadata = with_prefix(attributes, semconv.METADATA_PREFIX)
    return {**told, "metadata": metadata} if metadata else told


def is_carried(name: str) -> bool:
    """Whether an attribute tells of the session around a span, not of the span."""
    return name in _OF_SESSION or name in _CARRIED or name.startswith(semconv.METADATA_PREFIX)


def spelt_out(attributes: Attributes) -> Data:
    """The fields that the span spells out one by one (`agentpulse.data.*`, `agentpulse.json.*`)."""
    told = with_prefix(attributes, semconv.DATA_PREFIX)
    for name, value in with_prefix(attributes, semconv.JSON_PREFIX).items():
        told[name] = parsed(value)
    return told


def with_prefix(attributes: Attributes, prefix: str) -> Data:
    """The attributes whose names start so, without that start."""
    return {
        clean(name[len(prefix) :], MAX_LABEL): plain(value)
        for name, value in attributes.items()
        if name.startswith(prefix)
    }


def parsed(value: object) -> object:
    """What JSON text stands for; anything else, and text that was cut, as it is."""
    if not isinstance(value, str):
        return plain(value)
    try:
        return plain(json.loads(value))
    except (ValueError, RecursionError):
        return clean(value)
