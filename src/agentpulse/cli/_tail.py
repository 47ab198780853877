"""`agentpulse tail`: the events of a server as they arrive, one line each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentpulse_exporter._delivery.http import NoAnswerError

from agentpulse.cli._asking import RefusedError, ask, in_words, is_page, quoted
from agentpulse.cli._lines import (
    Event,
    Following,
    MalformedAnswerError,
    discard_output,
    line_maker,
    waited_for_nobody,
)
from agentpulse.errors import SettingError
from agentpulse.settings import Settings, resolve

if TYPE_CHECKING:
    from agentpulse.cli import Subparsers

SECONDS_BETWEEN_LOOKS = 1.0
_FOR_GOOD = frozenset({400, 401, 403, 404})
"""Answers that asking again doesn't change."""
_FAILURES = (RefusedError, NoAnswerError, MalformedAnswerError)


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command to the tree."""
    parser = subparsers.add_parser(
        "tail",
        description="Follows the events of a server, by default that of AGENTPULSE_ENDPOINT, as "
        "they arrive, one line each, until Ctrl-C. Exit status 1 if the server isn't there or "
        "refuses the key.",
    )
    parser.add_argument("--kind", help="only events of this kind, for example llm_call")
    parser.add_argument("--session", help="only events of the session with this key")
    parser.add_argument("--json", action="store_true", help="print each event as JSON")
    parser.add_argument("--endpoint", help="the server, for example http://127.0.0.1:4319")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        settings = resolve({"endpoint": arguments.endpoint})
    except SettingError as error:
        return _fail(str(error))
    if settings.problems:
        return _fail(settings.problems[0])
    asked = {"kind": arguments.kind, "session": arguments.session}
    following = Following(
        lambda path: ask(settings, path),
        {name: value for name, value in asked.items() if value is not None},
    )
    try:
        return _follow(following, settings, json.dumps if arguments.json else line_maker())
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        discard_output()
        return 0


def _follow(following: Following, settings: Settings, shown: Callable[[Event], str]) -> int:
    """Prints what arrives, until the reader of a pipe is gone or there is no use in going on."""
    try:
        following.arrived()
    except _FAILURES as error:
        return _fail(_problem(settings, error))
    _say(f"Following {settings.endpoint}; Ctrl-C ends it.")
    is_lost = False
    while not waited_for_nobody(SECONDS_BETWEEN_LOOKS):
        try:
            events = following.arrived()
        except _FAILURES as error:
            if _is_for_good(error):
                return _fail(_problem(settings, error))
            if not is_lost:
                _say(f"{_problem(settings, error)} Trying on.")
            is_lost = True
            continue
        if is_lost:
            _say(f"{settings.endpoint} answers again.")
        is_lost = False
        for event in events:
            print(shown(event))
        sys.stdout.flush()
    return 0


def _is_for_good(error: Exception) -> bool:
    return not isinstance(error, (RefusedError, NoAnswerError)) or (
        isinstance(error, RefusedError) and error.answer.status in _FOR_GOOD
    )


def _problem(settings: Settings, error: Exception) -> str:
    if isinstance(error, NoAnswerError):
        return f"{settings.endpoint} can't be followed: {in_words(error)}."
    if not isinstance(error, RefusedError):
        return f"{settings.endpoint} can't be followed: {error}."
    said = f"{settings.endpoint} can't be followed: {in_words(error.answer)}."
    quote = quoted(error.answer) if error.answer.body else ""
    return f"{said} It said: {quote}" if quote and not is_page(error.answer) else said


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def _say(message: str) -> None:
    # Not on stdout, which is for events alone.
    print(f"agentpulse: {message}", file=sys.stderr, flush=True)
