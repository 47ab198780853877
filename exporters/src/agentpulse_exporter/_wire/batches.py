"""Events as requests: as many in each as the receiver takes, their cost summed up at its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.event import Event, Head, event
from agentpulse_exporter._wire.limits import total

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
    """Events that travel together. What identifies it depends on its events alone."""

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
        """About how many bytes of memory its events take: their JSON, and what it is made of."""
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
    """Leaves out each transcript that a later one of its session replaces."""
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
    """Packs events, in order, as they come. What fills no request waits for the next events."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._begun = _Packing(max_events)

    @property
    def has_begun(self) -> bool:
        """Whether events wait that fill no request."""
        return bool(self._begun.events)

    def full(self, events: Iterable[Event]) -> Iterator[Batch]:
        """Adds the events. A batch is made when the next event has no room in it."""
        for each in events:
            if self.has_begun and not self._begun.has_room(each):
                yield from self.rest()
            self._begun.add(each)

    def rest(self) -> Iterator[Batch]:
        """What waits, as it is."""
        packed, self._begun = self._begun, _Packing(self._max_events)
        return packed.close()


@dataclass(slots=True)
class _Packing:
    max_events: int
    events: list[Event] = field(default_factory=list[Event])
    costs: dict[Key, _RollUp] = field(default_factory=dict["Key", "_RollUp"])
    size: int = _ENVELOPE

    def has_room(self, each: Event) -> bool:
        key = _cost_key(each)
        new = key is not None and key not in self.costs
        size = self.size + len(each.json) + (_roll_up_size(key) if new and key else 0)
        count = len(self.events) + len(self.costs) + 1 + new
        return count <= self.max_events and size <= MAX_BODY

    def add(self, each: Event) -> None:
        key = _cost_key(each)
        if key is not None:
            if key not in self.costs:
                self.costs[key] = _RollUp()
                self.size += _roll_up_size(key)
            self.costs[key].add(each)
        self.events.append(each)
        self.size += len(each.json) + 2

    def close(self) -> Iterator[Batch]:
        sums = [
            shielded("sum up what calls cost", partial(cost.event, key), None)
            for key, cost in self.costs.items()
        ]
        all_events = [*self.events, *(each for each in sums if each is not None)]
        # With room for one event only, the sum has to travel by itself.
        for start in range(0, len(all_events), self.max_events):
            yield Batch(tuple(all_events[start : start + self.max_events]))


@dataclass(slots=True)
class _RollUp:
    """The sum of calls of one model in one session."""

    calls: list[Event] = field(default_factory=list[Event])

    def add(self, call: Event) -> None:
        self.calls.append(call)

    def event(self, key: Key) -> Event | None:
        session, provider, model = key
        ids = "\n".join(call.head.id for call in self.calls)
        head = Head(
            kind="cost",
            ts=max(call.head.ts for call in self.calls),
            id=f"{hashlib.sha256(ids.encode()).hexdigest()[:32]}-cost",
            session=session,
        )
        data: dict[str, object] = {
            "model": model,
            "provider": provider,
            "tokens": self._sum("tokens"),
            "input_tokens": self._sum("input_tokens"),
            "output_tokens": self._sum("output_tokens"),
            "cost_usd": self._sum("cost_usd"),
            "calls": len(self.calls),
        }
        return event(head, data, spans=0)

    def _sum(self, name: str) -> int | float | None:
        return total(call.data[name] for call in self.calls)


def _cost_key(each: Event) -> Key | None:
    """What the event's cost is summed under; None for an event that has none and used nothing."""
    if each.head.kind != "llm_call":
        return None
    data = each.data
    if data["cost_usd"] is None and data["tokens"] is None:
        return None
    return each.head.session, data["provider"], data["model"]


def _roll_up_size(key: Key) -> int:
    return _ROLL_UP + len(json.dumps(key))
