"""Follows the events of a server: all that arrive, each once.

Servers list events by the time at which they happened, and an event arrives some time after that:
when its batch is sent, or a retry gets through. So each look goes back a while before the latest
event, and what was there at the look before is left out, by how often it was there, because two
events without an id may well be alike.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlencode

LOOK_BACK = 60.0
"""Seconds by which an event may arrive after later ones and still be seen."""
_MOST = 1000
"""Events in one answer."""
_LATEST = 1e11
"""Seconds since 1970; times after that, in the year 5138, are none."""

Event = Mapping[str, object]


class MalformedAnswerError(Exception):
    """What was answered is no list of events."""


def events_path(wanted: Mapping[str, str]) -> str:
    """Where to ask for events: those of a `kind`, a `session`, `since` a time, at most `limit`."""
    return f"/v1/events?{urlencode(wanted, errors='replace')}"


def page(answer: object) -> tuple[list[Event], str | None]:
    """The events of an answer, the latest first, and where to go on, where there are more.

    Raises:
        MalformedAnswerError: It lists no events.
    """
    if isinstance(answer, dict):
        told = cast("dict[str, object]", answer)
        events, place = told.get("events"), told.get("next")
        if isinstance(events, list) and all(map(_is_event, cast("list[object]", events))):
            return cast("list[Event]", events), place if isinstance(place, str) else None
    message = "what answers there doesn't list events as an AgentPulse API"
    raise MalformedAnswerError(message)


class Following:
    """One reader's place in the events of a server."""

    def __init__(self, ask: Callable[[str], object], wanted: Mapping[str, str]) -> None:
        """Begins nowhere yet.

        Args:
            ask: Gets the JSON at a path of the server; what it raises comes out of `arrived`.
            wanted: What to ask for: `kind`, `session`.
        """
        self._ask = ask
        self._wanted = dict(wanted)
        self._latest: float | None = None
        self._there: Counter[str] | None = None

    def arrived(self) -> list[Event]:
        """The events that came since the last call, in order of time; at first there are none.

        If it raises, nothing is lost: the next call has them.

        Raises:
            MalformedAnswerError: Something else answers than the API.
        """
        if self._there is None:
            (newest, _) = self._page({"limit": "1"})
            self._note_latest(newest)
        found = self._since_then()
        there = Counter(map(_identity, found))
        before = there if self._there is None else self._there
        fresh = _beyond(before, found)
        self._note_latest(found)
        self._there = there
        return fresh

    def _since_then(self) -> list[Event]:
        """The latest first."""
        asked = {"limit": str(_MOST)}
        if self._latest is not None:
            asked["since"] = repr(self._latest - LOOK_BACK)
        found, place = self._page(asked)
        while place is not None:
            more, place = self._page({**asked, "before": place})
            found += more
        return found

    def _page(self, asked: Mapping[str, str]) -> tuple[list[Event], str | None]:
        return page(self._ask(events_path({**self._wanted, **asked})))

    def _note_latest(self, found: list[Event]) -> None:
        # A sender whose clock is ahead must not hide what others send until then.
        times = [min(cast("float", event["ts"]), time.time()) for event in found]
        if self._latest is not None:
            times.append(self._latest)
        self._latest = max(times, default=None)


def _beyond(before: Mapping[str, int], found: list[Event]) -> list[Event]:
    """What was found more often than before, the oldest first."""
    left = Counter(before)
    fresh: list[Event] = []
    for event in reversed(found):
        identity = _identity(event)
        if not left[identity]:
            fresh.append(event)
            # An id stands for one event, however often a server has it.
            left[identity] += "id" in event
        elif "id" not in event:
            left[identity] -= 1
    return fresh


def _identity(event: Event) -> str:
    return f"id {event['id']}" if "id" in event else json.dumps(event, sort_keys=True)


def _is_event(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    event = cast("dict[str, object]", value)
    ts = event.get("ts")
    return (
        isinstance(event.get("kind"), str)
        and isinstance(ts, (int, float))
        and 0 <= ts <= _LATEST
        and isinstance(event.get("data"), dict)
    )
