"""Our own log: warnings that are said once, and everything on stderr where `debug` asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("agentpulse")
"""The parent of all our loggers."""

_said: set[str] = set()


def warn_once(text: str) -> None:
    """Logs a warning, unless this process has logged the same one before."""
    if text not in _said:
        _said.add(text)
        logger.warning("%s", text)


def log_to_stderr() -> Callable[[], None]:
    """Writes all that our loggers say to stderr, until the function that is returned is called."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)

    return stop
