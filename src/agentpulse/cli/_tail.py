"""`agentpulse tail`: the events of a server as they arrive, one line each.

Servers list events by the time at which they happened, and an event arrives some time after that:
when its batch is sent, or a retry gets through. So each request goes back a while before the latest
event, and events of the request before are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from agentpulse import _output as output
from agentpulse.cli._requests import RequestError, get_json
from agentpulse.errors import SettingError
from agentpulse.settings import resolve

Event = Mapping[str, Any]

LOOK_BACK = 60.0
"""Seconds by which an event may arrive after later ones and still be seen."""
_SECONDS_BETWEEN_REQUESTS = 1.0
_MAX_EVENTS = "1000"
"""Events in one answer."""
_LONGEST = 240
_FIELDS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("severity", "action", "span_kind", "type", "label", "job"), str),
    **dict.fromkeys(("name", "title", "model", "file"), str),
    "value": "= {:g}".format,
    **dict.fromkeys(("status", "error_type", "error"), str),
    **{name: f"{{:,.0f}} {name}".format for name in ("tokens", "calls", "lines")},
    "size_bytes": "{:,.0f} bytes".format,
    "active_sessions": "{:,.0f} active sessions".format,
    "cost_usd": output.precise_dollars,
    **dict.fromkeys(("duration_ms", "latency_ms"), "{:,.0f} ms".format),
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
    """Follows the server until Ctrl-C or a closed pipe; 1 where it can't be followed at first."""
    try:
        settings = resolve({"endpoint": arguments.endpoint})
    except SettingError as error:
        return output.fail(str(error))
    if settings.problems:
        return output.fail(settings.problems[0])
    filters = {"kind": arguments.kind, "session": arguments.session}
    given = {name: value for name, value in filters.items() if value is not None}
    following = Following(lambda path: get_json(settings, path), given)
    try:
        _follow(following, settings.endpoint, json.dumps if arguments.json else line)
    except RequestError as error:
        return output.fail(f"{settings.endpoint} can't be followed: {error}")
    except (KeyboardInterrupt, BrokenPipeError):
        output.discard_output()
    return 0


def _follow(following: Following, endpoint: str, render: Callable[[Event], str]) -> None:
    """Prints the events that arrive; waits for a server that is gone after it was there."""
    following.arrived()
    output.notify(f"Following {endpoint}; Ctrl-C ends it.")
    is_gone = False
    while True:
        time.sleep(_SECONDS_BETWEEN_REQUESTS)
        try:
            events = following.arrived()
        except RequestError as error:
            if not is_gone:
                output.notify(f"{endpoint} can't be followed: {error} Trying on.")
            is_gone = True
            continue
        if is_gone:
            output.notify(f"{endpoint} answers again.")
        is_gone = False
        sys.stdout.writelines(f"{render(event)}\n" for event in events)
        sys.stdout.flush()


@dataclass
class Following:
    """All events that arrive at a server from now on, each once."""

    get_json: Callable[[str], object]
    """Gets the JSON at a path of the server; its exceptions come out of `arrived`."""
    filters: Mapping[str, str]
    """`kind`, `session`, or neither."""
    _latest: float = 0.0
    _known: Mapping[str, Event] | None = None

    def arrived(self) -> list[Event]:
        """The events that came since the last call, in order of time; at first there are none.

        If it raises, nothing is lost: the next call has them.

        Raises:
            RequestError: The server is none of AgentPulse.
        """
        if self._known is None:
            self._advance(self._page({"limit": "1"})[0])
        found = self._recent()
        self._advance(found)
        known = self._known
        self._known = {_identity(event): event for event in reversed(found)}
        if known is None:
            return []
        return [event for identity, event in self._known.items() if identity not in known]

    def _recent(self) -> list[Event]:
        """The latest first."""
        query = {"limit": _MAX_EVENTS}
        if self._latest:
            query["since"] = repr(self._latest - LOOK_BACK)
        found, cursor = self._page(query)
        while cursor is not None:
            more, cursor = self._page({**query, "before": cursor})
            found += more
        return found

    def _page(self, query: Mapping[str, str]) -> tuple[list[Event], str | None]:
        path = f"/v1/events?{urlencode({**self.filters, **query}, errors='replace')}"
        answer = self.get_json(path)
        if isinstance(answer, dict):
            content = cast("dict[str, Any]", answer)
            if isinstance(content.get("events"), list):
                return content["events"], content.get("next")
        problem = "what answers there doesn't list events as an AgentPulse API"
        raise RequestError(problem)

    def _advance(self, found: list[Event]) -> None:
        # A sender whose clock is ahead must not hide events of others until then.
        self._latest = max([self._latest, *(min(event["ts"], time.time()) for event in found)])


def _identity(event: Event) -> str:
    return event.get("id") or json.dumps(event, sort_keys=True)


def line(event: Event) -> str:
    """The line of an event, without an end or characters of its own that can steer a terminal."""
    kind = f"{output.printable(event['kind']):10}"
    if event["kind"] in ("alert", "error") and sys.stdout.isatty() and not os.getenv("NO_COLOR"):
        kind = f"\x1b[31m{kind}\x1b[0m"
    moment = time.strftime("%H:%M:%S", time.localtime(event["ts"]))
    who = output.printable(" ".join(filter(None, (event.get("agent"), event.get("session")))))
    return output.encodable(f"{moment} {kind} {summary(event['kind'], event['data'])}  [{who}]")


def summary(kind: str, data: Event) -> str:
    """The known fields of an event's data, or else all of it, on one line and not too long."""
    if kind == "event":
        rest = {name: value for name, value in data.items() if name != "name"}
        more = json.dumps(rest, ensure_ascii=False) if rest else ""
        words = [_field(data.get("name"), str), more]
    else:
        # The name of a call is its operation and its model, which has a field of its own.
        skipped = "name" if data.get("model") else None
        words = [_field(data.get(name), form) for name, form in _FIELDS.items() if name != skipped]
    text = " ".join(filter(None, words)) or json.dumps(data, ensure_ascii=False)
    text = output.printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _field(value: object, form: Callable[[Any], str]) -> str:
    """A field in its form; nothing for a value of another type."""
    if form is str:
        return value if isinstance(value, str) else ""
    return form(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
