"""An event as one line for people: when, what kind, what of it matters, and who sent it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TypeGuard, cast

from agentpulse.formats import precise_dollars

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
