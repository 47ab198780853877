"""When a program of this agent's name last started, and what it joined, as the server was told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from agentpulse_exporter._delivery.http import NoAnswerError

from agentpulse.cli._asking import RefusedError, ask
from agentpulse.cli._lines import Event, MalformedAnswerError, events_path, page, printable
from agentpulse.settings import Settings

_LOOKED_THROUGH = 1000
"""Starts, the latest ones, of all the programs of an account."""
_OURS = frozenset({"agentpulse", "agentpulse.exe"})
"""Our own command, which tells of its start where `agentpulse run` runs it."""
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, slots=True)
class LastStart:
    """What `init` told."""

    at: float
    """Seconds since 1970."""
    program: str
    """The base name of what Python was started with; empty where it was not told."""
    python: str
    system: str
    sdk: str
    provider: str
    """Empty where it was not told."""
    processors: tuple[str, ...]
    sampling: str | None
    """How many traces are recorded, where that isn't all."""

    def lines(self, now: float) -> Iterator[str]:
        """In words."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        yield (
            f"{moment} ({ago(now - self.at)}), Python {self.python} on {self.system}, "
            f"AgentPulse {self.sdk}"
        )
        if self.program:
            yield f"program: {self.program}"
        if self.provider:
            yield f"tracer provider: {self.provider}"
        yield from self.processors
        if self.sampling is not None:
            yield f"sampler: {self.sampling}"


def last_start(settings: Settings, before: float) -> LastStart | None:
    """The last start of `agent_name` before a time, but for our own command's.

    None where the server tells of none.
    """
    path = events_path({"kind": "sdk_init", "limit": str(_LOOKED_THROUGH)})
    try:
        events, _ = page(ask(settings, path))
    except (RefusedError, NoAnswerError, MalformedAnswerError):
        return None
    mine = (
        event
        for event in events
        if event.get("agent") == settings.agent_name
        and _moment(event) < before
        and _text(_data(event), "program") not in _OURS
    )
    latest = max(mine, key=_moment, default=None)
    return None if latest is None else _start(latest)


def ago(seconds: float) -> str:
    """How long ago, roughly."""
    for length, unit in _UNITS:
        number = int(seconds // length)
        if number >= 1:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def _start(event: Event) -> LastStart:
    data = _data(event)
    lines = data.get("span_processors")
    told = cast("list[object]", lines) if isinstance(lines, list) else []
    return LastStart(
        at=_moment(event),
        program=_text(data, "program"),
        python=_text(data, "python") or "unknown",
        system=_text(data, "os") or "an unknown system",
        sdk=_text(data, "sdk_version") or "unknown",
        provider=_text(data, "tracer_provider"),
        processors=tuple(printable(line) for line in told if isinstance(line, str)),
        sampling=_text(data, "sampling") or None,
    )


def _data(event: Event) -> Mapping[str, object]:
    return cast("Mapping[str, object]", event["data"])


def _moment(event: Event) -> float:
    return cast("float", event["ts"])


def _text(data: Mapping[str, object], name: str) -> str:
    value = data.get(name)
    return printable(value) if isinstance(value, str) else ""
