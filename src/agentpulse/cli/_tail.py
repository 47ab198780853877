"""`agentpulse tail`: the events of a server as they arrive, one line each.

Servers list events by the time at which they happened, and an event arrives some time after that:
when its batch is sent, or a retry gets through. So each request goes back a while before the latest
event, and events of the request before are skipped, as many times as they were there, because two
events without an id may well be alike.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from urllib.parse import urlencode

from agentpulse._output import (
    discard_output,
    encodable,
    fail,
    notify,
    precise_dollars,
    printable,
)
from agentpulse.cli._requests import RequestError, get_json
from agentpulse.errors import SettingError
from agentpulse.settings import Settings, resolve

Event = Mapping[str, Any]

LOOK_BACK = 60.0
"""Seconds by which an event may arrive after later ones and still be seen."""
_SECONDS_BETWEEN_REQUESTS = 1.0
_MAX_EVENTS = 1000
"""Events in one answer."""
_LATEST = 1e11
"""Seconds since 1970; later times, after the year 5138, are no times of events."""
_LONGEST = 240
_KIND_WIDTH = 10
_COLORS = {"alert": "\x1b[33m", "error": "\x1b[31m"}
"""Of kinds that stand out on a terminal."""
_USUAL_COLOR = "\x1b[36m"
_FIELDS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("severity", "action", "span_kind", "type", "label", "job"), str),
    **dict.fromkeys(("name", "title", "model", "file"), str),
    "value": "= {:g}".format,
    **dict.fromkeys(("status", "error_type", "error"), str),
    "tokens": "{:,.0f} tokens".format,
    "calls": "{:,.0f} calls".format,
    "size_bytes": "{:,.0f} bytes".format,
    "lines": "{:,.0f} lines".format,
    "active_sessions": "{:,.0f} active sessions".format,
    "cost_usd": precise_dollars,
    "duration_ms": "{:,.0f} ms".format,
    "latency_ms": "{:,.0f} ms".format,
    "summary": str,
}
"""The fields of a line, in order, whatever the kind of the event: `str` for texts, else figures."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Follows the events of a server, by default that of AGENTPULSE_ENDPOINT, as they arrive, "
        "one line each, until Ctrl-C. Exit status 1 if the server isn't there or refuses the key."
    )
    parser.add_argument("--kind", help="only events of this kind, for example llm_call")
    parser.add_argument("--session", help="only events of the session with this key")
    parser.add_argument("--json", action="store_true", help="print each event as JSON")
    parser.add_argument("--endpoint", help="the server, for example http://127.0.0.1:4319")


def run(arguments: argparse.Namespace) -> int:
    """Follows the server to the end: Ctrl-C, a closed pipe, or a failure that lasts."""
    try:
        settings = resolve({"endpoint": arguments.endpoint})
    except SettingError as error:
        return fail(str(error))
    if settings.problems:
        return fail(settings.problems[0])
    filters = {"kind": arguments.kind, "session": arguments.session}
    following = Following(
        lambda path: get_json(settings, path),
        {name: value for name, value in filters.items() if value is not None},
    )
    try:
        return _follow(following, settings, json.dumps if arguments.json else _shown)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        discard_output()
        return 0


def _follow(following: Following, settings: Settings, render: Callable[[Event], str]) -> int:
    """Prints the events that arrive, until the reader of a pipe is gone or a failure lasts."""
    was_there: bool | None = None
    news = {
        None: f"Following {settings.endpoint}; Ctrl-C ends it.",
        False: f"{settings.endpoint} answers again.",
    }
    while True:
        try:
            events = following.arrived()
        except RequestError as error:
            problem = f"{settings.endpoint} can't be followed: {error}"
            if error.is_final or was_there is None:
                return fail(problem)
            if was_there:
                notify(f"{problem} Trying on.")
            was_there = False
        else:
            if not was_there:
                notify(news[was_there])
            was_there = True
            sys.stdout.writelines(f"{render(event)}\n" for event in events)
            sys.stdout.flush()
        if _reader_is_gone_after(_SECONDS_BETWEEN_REQUESTS):
            return 0


def _reader_is_gone_after(seconds: float) -> bool:
    """Waits; True, and at once, where output is a pipe that nobody reads any more."""
    if os.name != "posix" or not stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        time.sleep(seconds)
        return False
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # a broken pipe is reported without being asked for
    return bool(poller.poll(seconds * 1000))


class Following:
    """All events that arrive at a server from now on, each once."""

    def __init__(self, get_json: Callable[[str], object], filters: Mapping[str, str]) -> None:
        """Makes no request yet.

        Args:
            get_json: Gets the JSON at a path of the server; its exceptions come out of `arrived`.
            filters: `kind`, `session`, or neither.
        """
        self._get_json = get_json
        self._filters = filters
        self._latest = 0.0
        self._known: Mapping[str, Event] | None = None

    def arrived(self) -> list[Event]:
        """The events that came since the last call, in order of time; at first there are none.

        If it raises, nothing is lost: the next call has them.

        Raises:
            RequestError: The server is none of AgentPulse.
        """
        if self._known is None:
            newest, _ = self._page({"limit": "1"})
            self._advance(newest)
        found = self._recent()
        self._advance(found)
        known, self._known = self._known, _identified(reversed(found))
        if known is None:
            return []
        return [event for identity, event in self._known.items() if identity not in known]

    def _recent(self) -> list[Event]:
        """The latest first."""
        query = {"limit": str(_MAX_EVENTS)}
        if self._latest:
            query["since"] = repr(self._latest - LOOK_BACK)
        found, cursor = self._page(query)
        while cursor is not None:
            more, cursor = self._page({**query, "before": cursor})
            found += more
        return found

    def _page(self, query: Mapping[str, str]) -> tuple[list[Event], str | None]:
        path = f"/v1/events?{urlencode({**self._filters, **query}, errors='replace')}"
        answer = self._get_json(path)
        if isinstance(answer, dict):
            content = cast("dict[str, object]", answer)
            events, cursor = content.get("events"), content.get("next")
            if isinstance(events, list) and all(map(_is_event, cast("list[object]", events))):
                return cast("list[Event]", events), cursor if isinstance(cursor, str) else None
        problem = "what answers there doesn't list events as an AgentPulse API"
        raise RequestError(problem)

    def _advance(self, found: list[Event]) -> None:
        # A sender whose clock is ahead must not hide events of others until then.
        self._latest = max([self._latest, *(min(event["ts"], time.time()) for event in found)])


def _identified(events: Iterable[Event]) -> dict[str, Event]:
    """Each event by its id, however often a server has it, or by its content and a number."""
    alike: Counter[str] = Counter()
    found: dict[str, Event] = {}
    for event in events:
        identity = f"id {event['id']}" if "id" in event else json.dumps(event, sort_keys=True)
        alike[identity] += "id" not in event
        found.setdefault(f"{identity} {alike[identity]}", event)
    return found


def _is_event(value: object) -> bool:
    match value:
        case {"kind": str(), "ts": int() | float() as ts, "data": dict()}:
            return 0 <= ts <= _LATEST
        case _:
            return False


def _shown(event: Event) -> str:
    """The line of an event, with its kind in color on a terminal."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if is_plain or not sys.stdout.isatty():
        return line(event)
    return line(event, _COLORS.get(event["kind"], _USUAL_COLOR))


def line(event: Event, color: str = "") -> str:
    """The line of an event, without an end or characters of its own that can steer a terminal."""
    kind = printable(event["kind"])
    moment = time.strftime("%H:%M:%S", time.localtime(event["ts"]))
    who = " ".join(printable(str(event[name])) for name in ("agent", "session") if event.get(name))
    text = summary(kind, event["data"])
    end = "\x1b[0m" if color else ""
    return encodable(f"{moment} {color}{kind:{_KIND_WIDTH}}{end} {text}  [{who}]")


def summary(kind: str, data: Event) -> str:
    """The known fields of an event's data, or else all of it, on one line and not too long."""
    if kind == "event":
        rest = {name: value for name, value in data.items() if name != "name"}
        words = [
            _field(data.get("name"), str),
            json.dumps(rest, ensure_ascii=False) if rest else "",
        ]
    else:
        # The name of a call is its operation and its model, which has a field of its own.
        skipped = "name" if data.get("model") else None
        words = [_field(data.get(name), form) for name, form in _FIELDS.items() if name != skipped]
    text = " ".join(filter(None, words)) or json.dumps(data, ensure_ascii=False)
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _field(value: object, form: Callable[[Any], str]) -> str:
    """A field in its form; nothing for a value of another type."""
    if form is str:
        return value if isinstance(value, str) else ""
    return form(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
