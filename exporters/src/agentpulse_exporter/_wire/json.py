"""Values and events as JSON that every receiver takes, whatever they came from.

An event is valid, encoded once, and has an id that never changes. One event that the receiver
finds invalid costs its whole batch, so everything that goes out passes here: values become plain
JSON, texts are cut where they are too long (and marked as cut), numbers never are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import Attributes, decoded, text

MAX_DATA = 16_384
"""Characters of an event's data as JSON."""
MAX_TEXT = 4_096
"""Characters of one text. The messages of a call have a limit of their own, together."""
MAX_LABEL = 256
"""Characters of texts that name something: a model, a provider, an agent, a session."""
CUT = "… [cut]"

_EARLIEST = 1_577_836_800.0  # 2020-01-01
_LATEST_AHEAD = 23 * 3600.0  # the receiver takes a day; an hour is left for clocks that differ
_MAX_DEPTH = 8
_MAX_VALUES = 4096
_MAX_WHOLE = 2**63
# Half a surrogate pair is no character, and NUL is one that databases refuse.
_UNSENDABLE = re.compile("[\ud800-\udfff\x00]")

Data = dict[str, object]

_CARRIED = {semconv.USER_ID: "user", semconv.CALLED_IN_AGENT: "agent"}
_OF_SESSION = (semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS)


def clean(value: str, limit: int = MAX_TEXT) -> str:
    """The text without characters that can't be sent, cut at the limit in whole code points."""
    # A subclass may override anything; the text it holds counts.
    exact = str.__str__(value)
    if len(exact) > limit:
        exact = exact[: limit - len(CUT)] + CUT
    return _UNSENDABLE.sub("\ufffd", exact)


def plain(value: object, *, limit: int = MAX_TEXT) -> object:
    """The value as JSON has it.

    A value that JSON has no form for becomes the name of its type; a number that isn't finite
    becomes None. None of the object's own code runs.
    """
    return _plain(value, limit, _MAX_DEPTH, iter(range(_MAX_VALUES)))


def _plain(value: object, limit: int, depth: int, budget: Iterator[int]) -> object:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return clean(value, limit)
    if isinstance(value, (int, float)):
        return _number(value)
    # A list that holds itself has no end, so both its depth and its size are bounded.
    if not depth or next(budget, None) is None:
        return CUT
    if isinstance(value, dict):
        return {
            clean(key, MAX_LABEL) if isinstance(key, str) else _type_name(key): _plain(
                item, limit, depth - 1, budget
            )
            for key, item in cast("dict[object, object]", value).items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Iterable[object]", value)
        return [_plain(item, limit, depth - 1, budget) for item in items]
    return _type_name(value)


def _type_name(value: object) -> str:
    # No `str` and no `repr`: an object's own code may raise, block, or end spans.
    return f"<{type(value).__name__}>"


def _number(value: float) -> float | None:
    if isinstance(value, int):
        exact = int.__index__(value)
        if -_MAX_WHOLE <= exact < _MAX_WHOLE:
            return exact
        # Receivers read numbers as 64 bits; one of 400 digits has no reading at all.
        try:
            return float(exact)
        except OverflowError:
            return None
    exact = float.__float__(value)
    return exact if math.isfinite(exact) else None


def total(values: Iterable[object]) -> int | float | None:
    """The sum of the known ones; None where none is known, or the sum exceeds 64 bits."""
    known = [value for value in values if isinstance(value, (int, float))]
    found = sum(known)
    return found if known and abs(found) < _MAX_WHOLE else None


def timestamp(seconds: float) -> float:
    """The time, moved into the range that receivers take where a wrong clock put it outside."""
    now = time.time()
    if not math.isfinite(seconds) or seconds > now + _LATEST_AHEAD:
        seconds = now
    return max(seconds, _EARLIEST)


def session_key(key: str) -> str:
    """The key of a session. Keys that are too long stay different from each other."""
    key = clean(key, len(key))
    if len(key.encode("utf-16-le")) // 2 <= MAX_LABEL:
        return key
    mark = hashlib.sha256(key.encode()).hexdigest()[:16]
    # A character takes up to two units, and the mark 17.
    return f"{key[: (MAX_LABEL - 17) // 2]}:{mark}"


def fit(data: Mapping[str, object], limit: int = MAX_DATA) -> tuple[dict[str, object], str] | None:
    """The plain data and its JSON in at most `limit` characters; None if it can't be made to fit.

    Long texts are cut, the longest most. Where that isn't enough, the largest lists and objects
    give way to a mark.
    """
    # Escaped and with blanks: no way to write the same JSON is longer, so any receiver finds it
    # short enough.
    encoded = json.dumps(data)
    if len(encoded) <= limit:
        return dict(data), encoded
    low, high = 32, limit
    best = _with_texts_cut(data, low)
    if len(best[1]) <= limit:
        while high - low > low // 8:
            middle = (low + high) // 2
            fitting = _with_texts_cut(data, middle)
            if len(fitting[1]) <= limit:
                best, low = fitting, middle
            else:
                high = middle
        return best
    fitting, _ = best
    for name in sorted(fitting, key=lambda name: -len(json.dumps(fitting[name]))):
        if isinstance(fitting[name], (dict, list)):
            fitting[name] = CUT
            encoded = json.dumps(fitting)
            if len(encoded) <= limit:
                return fitting, encoded
    return None


def _with_texts_cut(data: Mapping[str, object], longest: int) -> tuple[dict[str, object], str]:
    fitting = {name: _cut(value, longest) for name, value in data.items()}
    return fitting, json.dumps(fitting)


def _cut(value: object, longest: int) -> object:
    if isinstance(value, str):
        return clean(value, longest)
    if isinstance(value, list):
        return [_cut(item, longest) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {key: _cut(item, longest) for key, item in fields.items()}
    return value


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
    kept, encoded = fitted
    return Event(head, kept, f'{head.json()[:-1]}, "data": {encoded}}}', spans)


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
