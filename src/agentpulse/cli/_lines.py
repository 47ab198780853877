"""An event as one line for people: when, what kind, what of it matters, and who sent it."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeGuard, cast
from urllib.parse import urlencode

from agentpulse._formats import precise_dollars

Data = Mapping[str, object]

_LONGEST = 240
_DIM, _CYAN, _YELLOW, _RED, _END = "\x1b[2m", "\x1b[36m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_WIDTH = 10
"""Of the longest kind that there usually is."""


def line(event: Mapping[str, object], *, is_coloured: bool) -> str:
    """The line of an event, without an end. What can steer a terminal is left out of it."""
    data = cast("Data", event["data"])
    kind = printable(str(event["kind"]))
    moment = time.strftime("%H:%M:%S", time.localtime(cast("float", event["ts"])))
    who = " ".join(printable(str(event[name])) for name in ("agent", "session") if event.get(name))
    said = said_of(kind, data)
    if not is_coloured:
        return f"{moment} {kind:{_WIDTH}} {said}  [{who}]"
    colour = _RED if _is_bad(kind, data) else _YELLOW if kind == "alert" else _CYAN
    return f"{_DIM}{moment}{_END} {colour}{kind:{_WIDTH}}{_END} {said}  {_DIM}[{who}]{_END}"


def said_of(kind: str, data: Data) -> str:
    """What matters of an event's data, all on one line and not too long."""
    if kind == "event":
        rest = {name: value for name, value in data.items() if name != "name"}
        words = [_text(data.get("name")), json.dumps(rest, ensure_ascii=False) if rest else None]
    else:
        # A call's name is its operation and its model, which is said by itself.
        left_out = "name" if data.get("model") else None
        words = [show(data.get(name)) for name, show in _FIELDS if name != left_out]
    said = " ".join(word for word in words if word) or json.dumps(data, ensure_ascii=False)
    shown = printable(said)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _is_bad(kind: str, data: Data) -> bool:
    return (
        kind == "error"
        or data.get("status") in ("error", "fail")
        or data.get("severity") in ("error", "critical")
    )


def printable(text: str) -> str:
    """The text without what can steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _value(value: object) -> str | None:
    return f"= {value:g}" if _is_number(value) else None


def _amount(unit: str) -> Callable[[object], str | None]:
    return lambda value: f"{value:,.0f} {unit}" if _is_number(value) else None


def _dollars(value: object) -> str | None:
    return precise_dollars(value) if _is_number(value) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_FIELDS: tuple[tuple[str, Callable[[object], str | None]], ...] = (
    ("severity", _text),
    ("action", _text),
    ("span_kind", _text),
    ("type", _text),
    ("label", _text),
    ("job", _text),
    ("name", _text),
    ("title", _text),
    ("model", _text),
    ("file", _text),
    ("value", _value),
    ("status", _text),
    ("error_type", _text),
    ("error", _text),
    ("tokens", _amount("tokens")),
    ("calls", _amount("calls")),
    ("size_bytes", _amount("bytes")),
    ("lines", _amount("lines")),
    ("active_sessions", _amount("active sessions")),
    ("cost_usd", _dollars),
    ("duration_ms", _amount("ms")),
    ("latency_ms", _amount("ms")),
    ("summary", _text),
)
"""In the order in which they are said, whatever the kind: each has but some of them."""


# Follows the events of a server: all that arrive, each once.
#
# Servers list events by the time at which they happened, and an event arrives some time after that:
# when its batch is sent, or a retry gets through. So each look goes back a while before the latest
# event, and what was there at the look before is left out, by how often it was there, because two
# events without an id may well be alike.

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


# Standard output, as a terminal in colours or a pipe that may lose its reader.


def line_maker() -> Callable[[Event], str]:
    """Makes the line of an event, coloured only where a terminal shows it and nobody minds."""
    is_coloured = (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )

    def make(event: Event) -> str:
        return as_shown(line(event, is_coloured=is_coloured))

    return make


def as_shown(text: str) -> str:
    """The text with the letters that the terminal has."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def waited_for_nobody(seconds: float) -> bool:
    """Waits; True, and at once, where it is a pipe that nobody reads any more."""
    if os.name != "posix" or not _is_pipe():
        time.sleep(seconds)
        return False
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # that it broke is told without being asked for
    return bool(poller.poll(seconds * 1000))


def discard_output() -> None:
    """Sends what comes, and what is still buffered, nowhere: at the end it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:  # it is no file at all
        return False
