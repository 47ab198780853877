"""Server-sent events, from the bytes of a body as they come.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

LONGEST_EVENT = 8 * 2**20
"""Bytes that are held while an event is incomplete; a longer event is let go."""


_DONE = b"[DONE]"
_DONE_LINE = re.compile(rb"\ndata: ?\[DONE\]")
_KEPT = 64
"""Bytes of what came before, for a line that comes in pieces, or before the last empty ones."""


class EventDecoder:
    """Cuts bytes into events and gives the JSON object in their data; others are passed over.

    Attributes:
        first: The bytes that came first: all of them, where the body is no stream but small.
        is_done: Whether the server said that the stream is over (`data: [DONE]`).
    """

    __slots__ = ("_data", "_rest", "_size", "first", "is_done")

    def __init__(self) -> None:
        self.first = b""
        self.is_done = False
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Takes the next bytes and gives the events that they complete."""
        self.first = self.first or chunk
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
        self.is_done = self.is_done or data.startswith(_DONE)
        try:
            event = json.loads(data)
        except ValueError:
            return None
        return cast("dict[str, Any]", event) if isinstance(event, dict) else None


def is_ping(event: dict[str, Any]) -> bool:
    """Whether an event only keeps the connection open; Anthropic's client hides these."""
    return event.get("type") == "ping"


class Ending:
    """The first and the last bytes of a body whose events the client decodes.

    Attributes:
        first: As that of `EventDecoder`.
    """

    __slots__ = ("_last", "first")

    def __init__(self) -> None:
        self.first = b""
        self._last = b"\n"

    def take(self, chunk: bytes) -> None:
        """Takes the next bytes. Microseconds count here."""
        self.first = self.first or chunk
        self._last = self._last[-_KEPT:] + chunk

    @property
    def is_done(self) -> bool:
        """As that of `EventDecoder`: clients tell nobody of it."""
        return _DONE_LINE.search(self._last) is not None
