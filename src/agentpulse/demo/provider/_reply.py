"""A reply of the fake provider, and its texts and token counts: made up, the same every time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Body = Mapping[str, Any]

TEXT = "All quiet at 3 am: two mails answered, one invoice filed, nothing that needs you."
JSON = "application/json"
EVENTS = "text/event-stream"
_DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}


def dated(model: object) -> str:
    """The name under which a model answers."""
    return _DATED.get(str(model), str(model))


def tokens(content: Any) -> int:
    """A made-up count: four characters of JSON are a token."""
    return max(len(json.dumps(content)) // 4, 1)


def pieces(text: str) -> list[str]:
    """A text as it is streamed, word by word."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def answer_text(body: Body) -> str:
    """The text of every answer: JSON where the request has a format for it."""
    names = ("response_format", "text", "output_format", "output_config")
    return '{"mails": 2}' if '"json_' in json.dumps([body.get(name) for name in names]) else TEXT


@dataclass(frozen=True, slots=True)
class Charge:
    """The price of a call, in tokens as OpenAI counts them: cached input is input too."""

    provider: str
    model: str
    input_tokens: int
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP: a whole body, or a stream of events.

    Attributes:
        body: A JSON object, or bytes as they are; the plain form of a stream, where it is one.
        events: The events of a stream, encoded; None for a plain answer. An exception that comes
            out of them closes the connection, without the end of the stream.
        charge: Billed once the answer was sent whole.
    """

    body: Body | bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = JSON
    events: Iterable[bytes] | None = None
    charge: Charge | None = None

    def encoded(self) -> bytes:
        """The whole body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Change = Callable[[Reply], Reply]
"""A script: from the usual reply to the one that is sent."""


def sse(*events: Body, named: bool = False, done: bool = False) -> tuple[bytes, ...]:
    """Server-sent events; `named` as Anthropic and the Responses API do, `done` as chat does."""
    encoded = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    if named:
        names = (f"event: {event['type']}\n".encode() for event in events)
        encoded = [name + data for name, data in zip(names, encoded, strict=True)]
    return (*encoded, b"data: [DONE]\n\n") if done else tuple(encoded)


def fails(status: int, kind: str = "server_error") -> Change:
    """An error in the shape that both providers' clients read."""
    error = {"type": kind, "code": kind, "message": f"This is a fake {kind}.", "param": None}
    body = {"type": "error", "error": error}
    return lambda _reply: Reply(body, status=status)
