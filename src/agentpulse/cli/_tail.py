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
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlencode

from agentpulse_exporter._delivery.http import Answer, NoAnswerError

from agentpulse._output import (
    discard_output,
    encodable,
    fail,
    notify,
    precise_dollars,
    printable,
)
from agentpulse.cli._asking import RefusedError, ask, in_words, is_page, quoted
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
_DIM, _CYAN, _YELLOW, _RED, _END = "\x1b[2m", "\x1b[36m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_KIND_WIDTH = 10
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


class MalformedAnswerError(Exception):
    """The answer is no list of events."""


_FINAL = frozenset({400, 401, 403, 404})
"""Statuses that a later request would get too."""
_FAILURES = (RefusedError, NoAnswerError, MalformedAnswerError)


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
        lambda path: ask(settings, path),
        {name: value for name, value in filters.items() if value is not None},
    )
    is_coloured = (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
    try:
        return _follow(
            following,
            settings,
            json.dumps
            if arguments.json
            else lambda event: encodable(line(event, is_coloured=is_coloured)),
        )
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        discard_output()
        return 0


def _follow(following: Following, settings: Settings, render: Callable[[Event], str]) -> int:
    """Prints the events that arrive, until the reader of a pipe is gone or a failure lasts."""
    try:
        following.arrived()
    except _FAILURES as error:
        return fail(_problem(settings, error))
    notify(f"Following {settings.endpoint}; Ctrl-C ends it.")
    is_lost = False
    while not _reader_is_gone_after(_SECONDS_BETWEEN_REQUESTS):
        try:
            events = following.arrived()
        except _FAILURES as error:
            problem = _problem(settings, error)
            if _is_final(error):
                return fail(problem)
            if not is_lost:
                notify(f"{problem} Trying on.")
            is_lost = True
            continue
        if is_lost:
            notify(f"{settings.endpoint} answers again.")
        is_lost = False
        for event in events:
            print(render(event))
        sys.stdout.flush()
    return 0


def _is_final(error: Exception) -> bool:
    if isinstance(error, RefusedError):
        return error.answer.status in _FINAL
    return not isinstance(error, NoAnswerError)


def _problem(settings: Settings, error: RefusedError | NoAnswerError | MalformedAnswerError) -> str:
    outcome = error.answer if isinstance(error, RefusedError) else error
    reason = str(outcome) if isinstance(outcome, MalformedAnswerError) else in_words(outcome)
    problem = f"{settings.endpoint} can't be followed: {reason}."
    if isinstance(outcome, Answer) and not is_page(outcome) and (quote := quoted(outcome)):
        problem += f" Its answer: {quote}"
    return problem


def _reader_is_gone_after(seconds: float) -> bool:
    """Waits; True, and at once, where output is a pipe that nobody reads any more."""
    try:
        is_pipe = os.name == "posix" and stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:  # it is no file at all
        is_pipe = False
    if not is_pipe:
        time.sleep(seconds)
        return False
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # a broken pipe is reported without being asked for
    return bool(poller.poll(seconds * 1000))


class Following:
    """All events that arrive at a server from now on, each once."""

    def __init__(self, ask: Callable[[str], object], filters: Mapping[str, str]) -> None:
        """Makes no request yet.

        Args:
            ask: Gets the JSON at a path of the server; its exceptions come out of `arrived`.
            filters: `kind`, `session`, or neither.
        """
        self._ask = ask
        self._filters = filters
        self._latest = 0.0
        self._known: Counter[str] | None = None

    def arrived(self) -> list[Event]:
        """The events that came since the last call, in order of time; at first there are none.

        If it raises, nothing is lost: the next call has them.

        Raises:
            MalformedAnswerError: The server is none of AgentPulse.
        """
        if self._known is None:
            newest, _ = self._page({"limit": "1"})
            self._advance(newest)
        found = self._recent()
        fresh = [] if self._known is None else _beyond(self._known, found)
        self._advance(found)
        self._known = Counter(map(_identity, found))
        return fresh

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
        answer = self._ask(path)
        if isinstance(answer, dict):
            content = cast("dict[str, object]", answer)
            events, cursor = content.get("events"), content.get("next")
            if isinstance(events, list) and all(map(_is_event, cast("list[object]", events))):
                return cast("list[Event]", events), cursor if isinstance(cursor, str) else None
        message = "what answers there doesn't list events as an AgentPulse API"
        raise MalformedAnswerError(message)

    def _advance(self, found: list[Event]) -> None:
        # A sender whose clock is ahead must not hide events of others until then.
        self._latest = max([self._latest, *(min(event["ts"], time.time()) for event in found)])


def _beyond(known: Mapping[str, int], found: list[Event]) -> list[Event]:
    """The events that were found more often than they are known, the oldest first."""
    remaining = Counter(known)
    fresh: list[Event] = []
    for event in reversed(found):
        identity = _identity(event)
        if not remaining[identity]:
            fresh.append(event)
            # An id stands for one event, however often a server has it.
            remaining[identity] += "id" in event
        elif "id" not in event:
            remaining[identity] -= 1
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


def line(event: Event, *, is_coloured: bool) -> str:
    """The line of an event, without an end or characters that can steer a terminal."""
    data, kind = event["data"], printable(event["kind"])
    moment = time.strftime("%H:%M:%S", time.localtime(event["ts"]))
    who = " ".join(printable(str(event[name])) for name in ("agent", "session") if event.get(name))
    text = summary(kind, data)
    if not is_coloured:
        return f"{moment} {kind:{_KIND_WIDTH}} {text}  [{who}]"
    colour = _RED if _is_bad(kind, data) else _YELLOW if kind == "alert" else _CYAN
    return f"{_DIM}{moment}{_END} {colour}{kind:{_KIND_WIDTH}}{_END} {text}  {_DIM}[{who}]{_END}"


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


def _is_bad(kind: str, data: Event) -> bool:
    return (
        kind == "error"
        or data.get("status") in ("error", "fail")
        or data.get("severity") in ("error", "critical")
    )
