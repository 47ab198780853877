"""Events of the ingest protocol (not of spans or logs): encoded once, with ids that never change.

A batch has as many events as the receiver takes in one request, and the cost of their calls summed
up at its end. Also the fields that all events of spans share: identity, time, outcome and session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter import _values as values
from agentpulse_exporter._values import Attributes, label

Data = dict[str, object]

MAX_BODY = 256 * 1024 - 1024
"""Bytes of a request before compression, the envelope around the events included."""
_ENVELOPE = 4096
_OVERHEAD = 1024
"""Bytes that an event takes beside its texts."""
_ROLL_UP = 1024
"""Bytes that a roll-up takes beside its names, at most."""
_CARRIED = {semconv.USER_ID: "user", semconv.CALLED_IN_AGENT: "agent"}
_OF_SESSION = {semconv.SESSION_ID, semconv.SESSION_NAME, semconv.SESSION_ANCESTORS, *_CARRIED}
_SUMMED = ("tokens", "input_tokens", "output_tokens", "cost_usd")

Key = tuple[str | None, object, object]
"""Session, provider and model."""


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


def event(head: Head, data: Data, *, spans: int = 1, limit: int = values.MAX_DATA) -> Event | None:
    """The event of data that is plain already, made to fit; None if nothing makes it fit."""
    fitted = values.fit(data, limit)
    if fitted is None:
        return None
    kept, text = fitted
    return Event(head, kept, f'{head.json()[:-1]}, "data": {text}}}', spans)


@dataclass(frozen=True, slots=True)
class SentSpan:
    """A span as it is sent, and the fields that its events share.

    Attributes:
        span: The copy of it that holds no more than is sent.
        attributes: Those of the copy, by their current names.
        captures: Whether messages, and the texts of errors, are sent.
    """

    span: ReadableSpan
    attributes: Attributes
    captures: bool

    def head(self, kind: str, action: str = "") -> Head:
        """The head of an event of this kind; its time is the span's end, or its start so far.

        With an `action`, for one of several events of a kind: each needs an id of its own.
        """
        span, context = self.span, self.span.context
        session = values.text(self.attributes, semconv.SESSION_ID)
        span_id = format_span_id(context.span_id) if context is not None else "0" * 16
        return Head(
            kind=kind,
            ts=values.timestamp(self.times[1]),
            # A span's id alone repeats in programs that seed `random`, which is where the SDK takes
            # it from.
            id=f"{span_id}-{span.start_time or 0:x}-{kind}{action and f'-{action}'}",
            trace_id=None if context is None else format_trace_id(context.trace_id),
            span_id=None if context is None else span_id,
            parent_span_id=None if span.parent is None else format_span_id(span.parent.span_id),
            session=session and session_key(session),
        )

    @property
    def times(self) -> tuple[float, float]:
        """When it started and ended, in seconds since 1970; an open span ends at its start."""
        started, ended = (self.span.start_time or 0) / 1e9, self.span.end_time
        return started, started if ended is None else ended / 1e9

    def length(self) -> Data:
        """Its start and its duration."""
        started, ended = self.times
        duration = values.milliseconds(ended - started)
        return {"started_at": values.timestamp(started), "duration_ms": duration}

    def name(self) -> str:
        """Its name, made fit to send."""
        return label(self.span.name)

    def label(self, name: str) -> str | None:
        """A text that names something, made fit to send."""
        value = values.text(self.attributes, name)
        return value and label(value)

    def outcome(self) -> Data:
        """Success or error. Exceptions repeat their input, so their text is content."""
        error_type, status = self.label(semconv.ERROR_TYPE), self.span.status
        failed = status.status_code is StatusCode.ERROR or error_type is not None
        fields: Data = {"status": "error" if failed else "success", "error_type": error_type}
        if self.captures and failed and status.description:
            fields["error"] = values.clean(status.description)
        return fields

    def metadata(self) -> Data:
        """The metadata of the session around it."""
        return with_prefix(self.attributes, semconv.METADATA_PREFIX)

    def carried(self) -> Data:
        """User, agent and metadata of the session around it, where there are any."""
        fields: Data = {to: self.label(n) for n, to in _CARRIED.items() if n in self.attributes}
        metadata = self.metadata()
        return fields | ({"metadata": metadata} if metadata else {})

    @staticmethod
    def carries(name: str) -> bool:
        """Whether an attribute is of the session around a span, not of the span."""
        return name in _OF_SESSION or name.startswith(semconv.METADATA_PREFIX)


def session_key(key: str) -> str:
    """The key of a session. Keys that are too long stay different from each other."""
    key = values.clean(key, len(key))
    # In UTF-16, without its codec: a child forked while that is imported can never import it.
    if len(key) + sum(letter > "\uffff" for letter in key) <= values.MAX_LABEL:
        return key
    mark = hashlib.sha256(key.encode()).hexdigest()[:16]
    # A character takes up to two units, and the mark 17.
    return f"{key[: (values.MAX_LABEL - 17) // 2]}:{mark}"


def data_fields(attributes: Attributes) -> Data:
    """The fields of an event that the span has one by one (`agentpulse.data.*`, `….json.*`)."""
    structured = with_prefix(attributes, semconv.JSON_PREFIX).items()
    data = with_prefix(attributes, semconv.DATA_PREFIX)
    return data | {name: values.parsed(value) for name, value in structured}


def with_prefix(attributes: Attributes, prefix: str) -> Data:
    """The attributes whose names start so, without that start."""
    return {
        label(name[len(prefix) :]): values.plain(value)
        for name, value in attributes.items()
        if name.startswith(prefix)
    }


class Totals(dict[str, float]):
    """The usage of calls, summed up. None means that no call reported any."""

    def add(self, call: Data) -> None:
        """Adds a call by the data of its event."""
        self["calls"] = self.get("calls", 0) + 1
        for name in _SUMMED:
            value = call[name]
            if isinstance(value, (int, float)):
                self[name] = self.get(name, 0) + value

    def data(self) -> Data:
        """The fields of an event."""
        sums = {name: values.total([self.get(name)]) for name in _SUMMED}
        return {**sums, "calls": self.get("calls", 0)}


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are sent together. Its id depends on them alone."""

    events: tuple[Event, ...]

    @property
    def id(self) -> str:
        """Equal for every try of the same events, in any process; different for other events."""
        ids = "\n".join(event.head.id for event in self.events)
        return hashlib.sha256(ids.encode()).hexdigest()[:32]

    @property
    def spans(self) -> int:
        """How many ended spans its events stand for."""
        return sum(event.spans for event in self.events)

    @property
    def size(self) -> int:
        """About how many bytes of memory its events take, as JSON and as data."""
        return sum(2 * len(event.json) + _OVERHEAD for event in self.events)

    def halves(self) -> tuple[Batch, Batch]:
        """The batch as two, in order."""
        middle = len(self.events) // 2
        return Batch(self.events[:middle]), Batch(self.events[middle:])

    def body(self, agent: str, version: str) -> bytes:
        """The request's body."""
        envelope = json.dumps({"agent": agent, "sdk_version": version, "batch_id": self.id})
        events = ", ".join(event.json for event in self.events)
        return f'{envelope[:-1]}, "events": [{events}]}}'.encode("ascii")


def without_superseded(events: Iterable[Event]) -> list[Event]:
    """The events without each transcript that a later one of its session replaces."""
    kept = list(events)
    last = {each.head.session: each for each in kept if each.head.kind == "transcript"}
    return [e for e in kept if e.head.kind != "transcript" or e is last[e.head.session]]


class Packer:
    """Packs events, in order, as they come. Events that fill no request wait for the next ones."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._start_over()

    def _start_over(self) -> None:
        self._events: list[Event] = []
        self._priced: dict[Key, list[Event]] = {}
        self._size = _ENVELOPE

    @property
    def has_begun(self) -> bool:
        """Whether events wait that fill no request."""
        return bool(self._events)

    def full(self, events: Iterable[Event]) -> Iterator[Batch]:
        """Adds the events. A batch is made when the next event has no room in it."""
        for each in events:
            key = _cost_key(each)
            count, size = self._added(each, key)
            is_full = len(self._events) + len(self._priced) + count > self._max_events
            if self._events and (is_full or self._size + size > MAX_BODY):
                yield from self.rest()
                _, size = self._added(each, key)
            self._size += size
            self._events.append(each)
            if key is not None:
                self._priced.setdefault(key, []).append(each)

    def rest(self) -> list[Batch]:
        """The events that wait, as they are."""
        sums = values.shielded("sum up the cost of calls", lambda: _roll_ups(self._priced), [])
        events = [*self._events, *sums]
        self._start_over()
        # With room for one event only, the sum has to be sent by itself.
        most = self._max_events
        return [Batch(tuple(events[at : at + most])) for at in range(0, len(events), most)]

    def _added(self, each: Event, key: Key | None) -> tuple[int, int]:
        """The number and the bytes of an event and of the roll-up that it begins, if any."""
        begins = key is not None and key not in self._priced
        size = len(each.json) + 2
        return (2, size + _ROLL_UP + len(json.dumps(key))) if begins else (1, size)


def _roll_ups(priced: Mapping[Key, list[Event]]) -> list[Event]:
    """The sums of the calls of each model in each session."""
    made: list[Event | None] = []
    for (session, provider, model), calls in priced.items():
        totals = Totals()
        for call in calls:
            totals.add(call.data)
        latest = max(call.head.ts for call in calls)
        # Each call is in one sum alone.
        head = Head(kind="cost", ts=latest, id=f"{calls[0].head.id}-cost", session=session)
        made.append(event(head, {"model": model, "provider": provider, **totals.data()}, spans=0))
    return [each for each in made if each is not None]


def _cost_key(each: Event) -> Key | None:
    """The key of the event's sum; None for an event without cost and usage."""
    data = each.data
    if each.head.kind != "llm_call" or (data["cost_usd"] is None and data["tokens"] is None):
        return None
    return each.head.session, data["provider"], data["model"]
