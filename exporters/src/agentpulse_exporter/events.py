"""An event as it goes out: valid, encoded once, with an id that never changes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from agentpulse_exporter.limits import fit


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
