"""Standard output, as a terminal in colours or a pipe that may lose its reader."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable

from agentpulse.cli.following import Event
from agentpulse.cli.lines import line


def line_maker() -> Callable[[Event], str]:
    """Makes the line of an event, coloured only where a terminal shows it and nobody minds."""
    is_coloured = (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )

    def make(event: Event) -> str:
        return as_shown(line(event, is_coloured=is_coloured))

    return make


def as_shown(text: str) -> str:
    """The text with the letters that the terminal has."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def waited_for_nobody(seconds: float) -> bool:
    """Waits; True, and at once, where it is a pipe that nobody reads any more."""
    if os.name != "posix" or not _is_pipe():
        time.sleep(seconds)
        return False
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # that it broke is told without being asked for
    return bool(poller.poll(seconds * 1000))


def discard_output() -> None:
    """Sends what comes, and what is still buffered, nowhere: at the end it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:  # it is no file at all
        return False
