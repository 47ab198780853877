"""The JSON in bodies of HTTP responses, and the events that streams of them are cut into."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that JSON stands for; None where it stands for none, or is no JSON."""
    start = text.lstrip()[:1]
    if start != (b"{" if isinstance(start, bytes) else "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

LONGEST_EVENT = 8 * 2**20
"""Bytes that are held while an event is incomplete; a longer event is let go."""
_DONE = b"[DONE]"


class EventDecoder:
    """Cuts bytes into events and gives the JSON object in their data; others are passed over.

    Attributes:
        first: The bytes that came first: all of them, where the body is no stream but small.
        is_done: Whether the server declared the stream over (`data: [DONE]`).
    """

    __slots__ = ("_data", "_rest", "_size", "first", "is_done")

    def __init__(self) -> None:
        self.first: bytes = b""
        self.is_done: bool = False
        self._rest: bytes = b""
        self._data: list[bytes] = []
        self._size: int = 0

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Takes the next bytes and gives the events that they complete, but for pings."""
        self.first = self.first or chunk
        # A lone CR also ends a line by the standard; no provider sends it, and CRLF ends in LF.
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_EVENT else b""
        for line in lines:
            event = self._line(line.rstrip(b"\r"))
            # Anthropic's client hides the events that only keep the connection open.
            if event is not None and event.get("type") != "ping":
                yield event

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= LONGEST_EVENT:
                self._data.append(line[5:].lstrip(b" "))
        if line:
            return None
        data, size = b"\n".join(self._data), self._size
        self._data, self._size = [], 0
        self.is_done = self.is_done or data.startswith(_DONE)
        return json_object(data) if size <= LONGEST_EVENT else None
