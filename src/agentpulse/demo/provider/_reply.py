"""What the fake provider answers: one reply, and the ways in which it can go wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Texts and token counts of the fake provider: made up, and the same every time.

TEXT = "All quiet at 3 am: two mails answered, one invoice filed, nothing that needs you."
THOUGHT = "The user wants a summary; nothing urgent is in the list."
DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}
"""What models are called in answers."""


def dated(model: object) -> str:
    """The name under which a model answers."""
    return DATED.get(str(model), str(model))


def tokens(content: Any) -> int:
    """A made-up count: four characters of JSON are a token."""
    return max(len(json.dumps(content)) // 4, 1)


def pieces(text: str) -> list[str]:
    """A text as it is streamed, word by word."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call costs its caller, in tokens as OpenAI counts them: cached input is input too."""

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
        events: The events of a stream, encoded; None for a plain answer.
        charge: What is billed once the answer was sent whole.
        cut_after: After so many events the connection is closed, without the end of the stream.
        gate: Before each event, a permit is waited for (10 seconds at most).
    """

    body: Mapping[str, Any] | bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = JSON
    events: tuple[bytes, ...] | None = None
    charge: Charge | None = None
    cut_after: int | None = None
    gate: threading.Semaphore | None = None

    def encoded(self) -> bytes:
        """The whole body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Change = Callable[[Reply], Reply]
"""What a script does to the answer that would have been given."""


def sse(*events: Mapping[str, Any], named: bool = False, done: bool = False) -> tuple[bytes, ...]:
    """Server-sent events; `named` as Anthropic and the Responses API do, `done` as chat does."""
    encoded = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    if named:
        names = (f"event: {event['type']}\n".encode() for event in events)
        encoded = [name + data for name, data in zip(names, encoded, strict=True)]
    return (*encoded, b"data: [DONE]\n\n") if done else tuple(encoded)


def fails(status: int, kind: str = "server_error", *, retry_after: int | None = None) -> Change:
    """An error in the shape that both providers' clients read."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error = {"type": kind, "code": kind, "message": f"This is a fake {kind}.", "param": None}
    body = {"type": "error", "error": error}
    return lambda _reply: Reply(body, status=status, headers=headers)


def is_no_json(_reply: Reply) -> Reply:
    """A web page with status 200, as from a captive portal."""
    return Reply(b"<html>Please log in.</html>", content_type="text/html")


def without_usage(reply: Reply) -> Reply:
    """A plain answer that says nothing of tokens."""
    body = {n: value for n, value in json.loads(reply.encoded()).items() if n != "usage"}
    return replace(reply, body=body, charge=None)


def cut(after: int) -> Change:
    """The connection is lost after so many events of a stream."""
    return lambda reply: replace(reply, cut_after=after, charge=None)


def ended(after: int) -> Change:
    """The stream ends in good order after so many events, but before the answer is over."""
    return lambda reply: replace(reply, events=(reply.events or ())[:after], charge=None)


def broken(after: int, kind: str = "overloaded_error") -> Change:
    """After so many events comes one that reports an error."""
    error = {"type": "error", "error": {"type": kind, "code": kind, "message": "Overloaded."}}

    def change(reply: Reply) -> Reply:
        events = (reply.events or ())[:after] + sse(error, named=True)
        return replace(reply, events=events, charge=None)

    return change


def held_by(gate: threading.Semaphore) -> Change:
    """Each event waits for a permit, so that a test can see who asks for it when."""
    return lambda reply: replace(reply, gate=gate)


def answers(body: Mapping[str, Any]) -> Change:
    """This JSON, whatever was asked."""
    return lambda _reply: Reply(body)
