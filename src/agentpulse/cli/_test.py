"""`agentpulse test`: sends one event, and prints the server's answer."""

from __future__ import annotations

import argparse
import secrets
import time
from typing import cast

from agentpulse_exporter._wire.event import Event, Head, event

from agentpulse._output import fail, log_to_stderr
from agentpulse.cli._requests import RequestError, post
from agentpulse.settings import obstacle, resolve

_DATA: dict[str, object] = {"name": "agentpulse test", "message": "Sent by `agentpulse test`."}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description."""
    parser.description = (
        "Sends one event with the settings of the environment, and prints the server's answer. "
        "Exit status 0 if it accepted the event, else 1."
    )


def run(_arguments: argparse.Namespace) -> int:
    """Sends the event; 0 if it was accepted."""
    settings = resolve({})
    if settings.debug:
        log_to_stderr()
    reason = obstacle(settings)
    if reason is not None:
        return fail(f"Nothing was sent. {reason.text}")
    try:
        head = Head(kind="event", ts=time.time(), id=secrets.token_hex(16))
        # None only for data that can't be made to fit.
        was_compressed = post(settings, cast("Event", event(head, _DATA)))
    except RequestError as error:
        return fail(f"{settings.endpoint} did not accept the event: {error}")
    form = "gzip" if was_compressed else "plain JSON, since it reads no gzip"
    print(f"{settings.endpoint} accepted an event of the agent {settings.agent_name} ({form}).")
    return 0
