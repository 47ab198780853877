"""An event as it goes out: valid, encoded once, with an id that never changes.

Also the fields that all events of spans share: identity, time, outcome and session.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import Attributes, decoded, text
from agentpulse_exporter._wire.json import MAX_LABEL, clean, fit, plain, session_key, timestamp

Data = dict[str, object]

_CARRIED = {semconv.USER_ID: "user", semconv.CALLED_IN_AGENT: "agent"}
_OF_SESSION = (semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS)


@dataclass(frozen=True, slots=True)
class Head:
    """Everything of an event but its data. A field that is None is not sent."""

    kind: str
    ts: float
    id: str
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    session: str | None = None

    def json(self) -> str:
        """The head as a JSON object."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return json.dumps({name: value for name, value in fields if value is not None})


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        head: Its kind, time, identity and session.
        data: Its fields, as they are sent.
        json: The whole event as JSON, in ASCII, so that its length is its size.
        spans: How many ended spans it stands for: 1, or 0 for a sum of others.
    """

    head: Head
    data: Data
    json: str
    spans: int

    def trimmed(self) -> Event | None:
        """The event with its texts cut to a quarter of its size; None if that can't be done."""
        return event(self.head, self.data, spans=self.spans, limit=len(self.json) // 4)


def event(head: Head, data: Data, *, spans: int = 1, limit: int | None = None) -> Event | None:
    """The event of data that is plain already, made to fit; None if nothing makes it fit."""
    fitted = fit(data) if limit is None else fit(data, limit)
    if fitted is None:
        return None
    kept, text = fitted
    return Event(head, kept, f'{head.json()[:-1]}, "data": {text}}}', spans)


def head(kind: str, span: ReadableSpan, attributes: Attributes, action: str = "") -> Head:
    """The head of an event of this kind; its time is the span's end, or its start so far.

    With an `action`, for one of several events of a kind: each needs an id of its own.
    """
    context, session = span.context, text(attributes, semconv.SESSION_ID)
    span_id = format_span_id(context.span_id) if context is not None else "0" * 16
    return Head(
        kind=kind,
        ts=timestamp(times(span)[1]),
        # A span's id alone repeats in programs that seed `random`, which is where the SDK takes it
        # from.
        id=f"{span_id}-{span.start_time or 0:x}-{kind}{action and f'-{action}'}",
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
    """A length of time in milliseconds; never negative, though clocks may be set back."""
    return round(max(seconds, 0.0) * 1000, 3)


def length(span: ReadableSpan) -> Data:
    """Its start and its duration."""
    started, ended = times(span)
    return {"started_at": timestamp(started), "duration_ms": milliseconds(ended - started)}


def label(attributes: Attributes, name: str) -> str | None:
    """A text that names something, made fit to send."""
    value = text(attributes, name)
    return value and clean(value, MAX_LABEL)


def outcome(span: ReadableSpan, attributes: Attributes, *, capture_messages: bool) -> Data:
    """Success or error. Exceptions repeat their input, so their text is content."""
    error_type = label(attributes, semconv.ERROR_TYPE)
    failed = span.status.status_code is StatusCode.ERROR or error_type is not None
    fields: Data = {"status": "error" if failed else "success", "error_type": error_type}
    if capture_messages and failed and span.status.description:
        fields["error"] = clean(span.status.description)
    return fields


def carried(attributes: Attributes) -> Data:
    """User, agent and metadata of the session around it, where there are any."""
    fields: Data = {
        field: label(attributes, name) for name, field in _CARRIED.items() if name in attributes
    }
    metadata = with_prefix(attributes, semconv.METADATA_PREFIX)
    return {**fields, "metadata": metadata} if metadata else fields


def is_carried(name: str) -> bool:
    """Whether an attribute is of the session around a span, not of the span."""
    return name in _OF_SESSION or name in _CARRIED or name.startswith(semconv.METADATA_PREFIX)


def data_fields(attributes: Attributes) -> Data:
    """The fields of an event that the span has one by one (`agentpulse.data.*`, `….json.*`)."""
    structured = with_prefix(attributes, semconv.JSON_PREFIX)
    return with_prefix(attributes, semconv.DATA_PREFIX) | {
        name: parsed(value) for name, value in structured.items()
    }


def with_prefix(attributes: Attributes, prefix: str) -> Data:
    """The attributes whose names start so, without that start."""
    return {
        clean(name[len(prefix) :], MAX_LABEL): plain(value)
        for name, value in attributes.items()
        if name.startswith(prefix)
    }


def parsed(value: object) -> object:
    """The value of JSON text; anything else, and text that was cut, as it is."""
    return plain(decoded(value, value))
