"""`agentpulse test`: sends one event, and says what the server answered."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from typing import TYPE_CHECKING, cast

from agentpulse_exporter._delivery.answers import refused_events
from agentpulse_exporter._delivery.http import Answer
from agentpulse_exporter._wire.event import Event, Head, event

from agentpulse._otel.environment import log_to_stderr, obstacle
from agentpulse.cli._asking import Outcome, in_words, is_page, post, quoted
from agentpulse.settings import resolve

if TYPE_CHECKING:
    from agentpulse.cli import Subparsers

_DATA: dict[str, object] = {"name": "agentpulse test", "message": "Sent by `agentpulse test`."}


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command to the tree."""
    parser = subparsers.add_parser(
        "test",
        description="Sends one event with the settings of the environment, and says what the "
        "server answered. Exit status 0 if it took the event, else 1.",
    )
    parser.set_defaults(run=_run)


def _run(_arguments: argparse.Namespace) -> int:
    settings = resolve({})
    if settings.debug:
        log_to_stderr()
    reason = obstacle(settings)
    if reason is not None:
        print(f"Nothing was sent. {reason.text}", file=sys.stderr)
        return 1
    outcome, was_compressed = post(settings, _event())
    problem = _problem(outcome)
    if problem is None:
        form = "gzip" if was_compressed else "plain JSON, since it reads no gzip"
        print(f"{settings.endpoint} took an event of the agent {settings.agent_name} ({form}).")
        return 0
    print(f"{settings.endpoint} did not take the event: {problem}.", file=sys.stderr)
    if isinstance(outcome, Answer) and not is_page(outcome):
        print(f"It said: {quoted(outcome) or 'nothing'}", file=sys.stderr)
    return 1


def _event() -> Event:
    head = Head(kind="event", ts=time.time(), id=secrets.token_hex(16))
    return cast("Event", event(head, _DATA))  # None only for data that can't be made to fit


def _problem(outcome: Outcome) -> str | None:
    if (
        isinstance(outcome, Answer) and 200 <= outcome.status < 300 and not is_page(outcome)
    ):  # success
        return "it answered well, but refused it" if refused_events(outcome) else None
    return in_words(outcome)
