"""Output for people: our log, messages, text for any terminal or pipe, and figures."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

logger = logging.getLogger("agentpulse")
"""The parent of all our loggers."""
UNKNOWN = "\u2013"
"""A figure that is None."""
_LEAST = 0.000001
"""US dollars: less would be shown as nothing."""
_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000
_warned: set[str] = set()


def warn_once(text: str) -> None:
    """Logs a warning, unless this process has logged the same one before."""
    if text not in _warned:
        _warned.add(text)
        logger.warning("%s", text)


def log_to_stderr() -> Callable[[], None]:
    """Writes every record of our loggers to stderr, until the returned function is called."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)

    return stop


def fail(message: str) -> int:
    """Prints why the command can't go on; the exit status."""
    print(message, file=sys.stderr)
    return 1


def notify(message: str) -> None:
    """Prints a message beside the output, which belongs to events or to the user's command."""
    print(f"agentpulse: {message}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without characters that can steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def encodable(text: str) -> str:
    """The text in the characters that standard output has."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def discard_output() -> None:
    """Drops all further output, also what is still buffered: a flush at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dollars(value: float | None) -> str:
    """A cost in as many digits as are of use: `$12.50`, `$0.0315`, `$0.000042`."""
    if value is None:
        return UNKNOWN
    if value >= 1 or not value:
        return f"${value:,.2f}"
    return f"${value:.4f}" if value >= 0.01 else precise_dollars(value)


def precise_dollars(value: float) -> str:
    """A cost to the millionth of a dollar: `$12.500000`, `$0.000042`; less is `<$0.000001`."""
    return f"<${_LEAST:.6f}" if 0 < value < _LEAST else f"${value:,.6f}"


def whole(value: int | None) -> str:
    """A count: `1,234`."""
    return UNKNOWN if value is None else f"{value:,}"


def duration(milliseconds: float | None) -> str:
    """A time: `830 ms`, `2.4 s`, `12 min`, `3 h 20 min`."""
    if milliseconds is None:
        return UNKNOWN
    rounded = round(milliseconds)
    if rounded < _SECOND:
        return f"{rounded} ms"
    if rounded < _MINUTE:
        return f"{milliseconds / 1000:,.1f} s"
    minutes, hours = rounded // _MINUTE, rounded // _HOUR
    return f"{minutes} min" if rounded < _HOUR else f"{hours:,} h {minutes % 60} min"
