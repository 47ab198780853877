"""Server-sent events, from the bytes of a body as they come.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

LONGEST_EVENT = 8 * 2**20
"""Bytes that are held while an event is incomplete; a longer event is let go."""


class EventDecoder:
    """Cuts bytes into events and gives the JSON object in their data; others are passed over."""

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Takes the next bytes and gives the events that they complete."""
        # A lone CR also ends a line by the standard; no provider sends it, and CRLF ends in LF.
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_EVENT else b""
        for line in lines:
            event = self._line(line.rstrip(b"\r"))
            if event is not None:
                yield event

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= LONGEST_EVENT:
                self._data.append(line[5:].lstrip(b" "))
            return None
        if line or not self._data:
            return None
        data, self._data, self._size = b"\n".join(self._data), [], 0
        try:
            event = json.loads(data)
        except ValueError:
            return None
        return cast("dict[str, Any]", event) if isinstance(event, dict) else None


def is_ping(event: dict[str, Any]) -> bool:
    """Whether an event only keeps the connection open; Anthropic's client hides these."""
    return event.get("type") == "ping"


def event_failure(event: dict[str, Any]) -> str | None:
    """The `error.type` of an event that reports an error, in either provider's form."""
    error = event.get("error")
    if isinstance(error, dict):
        envelope = cast("dict[str, Any]", error)
    elif event.get("type") == "error":
        envelope = event
    else:
        return None
    for name in ("code", "type"):
        if isinstance(envelope.get(name), str):
            return envelope[name]
    return "_OTHER"
