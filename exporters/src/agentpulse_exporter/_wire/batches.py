"""Events as requests: as many in each as the receiver takes, their cost summed up at its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.event import Event, Head, event
from agentpulse_exporter._wire.json import total

MAX_BODY = 256 * 1024 - 1024
"""Bytes of a request before compression, the envelope around the events included."""
_ENVELOPE = 4096
_OVERHEAD = 1024
"""Bytes that an event takes beside its texts."""
_ROLL_UP = 1024
"""Bytes that a roll-up takes beside its names, at most."""

Key = tuple[str | None, object, object]
"""Session, provider and model."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are sent together. Its id depends on them alone."""

    events: tuple[Event, ...]

    @property
    def id(self) -> str:
        """Equal for every try of the same events, in any process; different for other events."""
        return _digest(self.events)

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
    kept: list[Event] = []
    newer: set[str | None] = set()
    for each in reversed(list(events)):
        if each.head.kind == "transcript":
            if each.head.session in newer:
                continue
            newer.add(each.head.session)
        kept.append(each)
    return kept[::-1]


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
            if self._events and not self._has_room(each, key):
                yield from self.rest()
            if key is not None:
                self._size += 0 if key in self._priced else _roll_up_size(key)
                self._priced.setdefault(key, []).append(each)
            self._events.append(each)
            self._size += len(each.json) + 2

    def rest(self) -> list[Batch]:
        """The events that wait, as they are."""
        sums = [
            shielded("sum up the cost of calls", partial(_roll_up, key, calls), None)
            for key, calls in self._priced.items()
        ]
        events = [*self._events, *(each for each in sums if each is not None)]
        self._start_over()
        # With room for one event only, the sum has to be sent by itself.
        most = self._max_events
        return [Batch(tuple(events[at : at + most])) for at in range(0, len(events), most)]

    def _has_room(self, each: Event, key: Key | None) -> bool:
        new = key is not None and key not in self._priced
        size = self._size + len(each.json) + (_roll_up_size(key) if new else 0)
        count = len(self._events) + len(self._priced) + 1 + new
        return count <= self._max_events and size <= MAX_BODY


def _roll_up(key: Key, calls: list[Event]) -> Event | None:
    """The sum of calls of one model in one session."""
    session, provider, model = key
    data: dict[str, object] = {"model": model, "provider": provider}
    for name in ("tokens", "input_tokens", "output_tokens", "cost_usd"):
        data[name] = total(call.data[name] for call in calls)
    data["calls"] = len(calls)
    latest = max(call.head.ts for call in calls)
    head = Head(kind="cost", ts=latest, id=f"{_digest(calls)}-cost", session=session)
    return event(head, data, spans=0)


def _digest(events: Iterable[Event]) -> str:
    ids = "\n".join(event.head.id for event in events)
    return hashlib.sha256(ids.encode()).hexdigest()[:32]


def _cost_key(each: Event) -> Key | None:
    """The key of the event's sum; None for an event without cost and usage."""
    data = each.data
    if each.head.kind != "llm_call" or (data["cost_usd"] is None and data["tokens"] is None):
        return None
    return each.head.session, data["provider"], data["model"]


def _roll_up_size(key: Key | None) -> int:
    return _ROLL_UP + len(json.dumps(key))
