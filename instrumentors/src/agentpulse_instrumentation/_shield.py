"""Where our own failures stop, all of them.

Everything we do around a user's call runs inside `with shield(step)`. An exception of ours is
logged at debug level with the step it broke and goes no further; the user's call, its answer and
its exceptions pass by. Tests set `strict`, so that a failure that a user would never see fails the
test that caused it.
"""

from __future__ import annotations

import logging
from types import TracebackType

_logger = logging.getLogger("agentpulse.instrumentation")

strict = False


class shield:  # noqa: N801  # it is used like a keyword: `with shield(...)`
    """Stops what our own code raises, and only `Exception`: Ctrl-C and exits are not ours.

    An instance holds no state of a call, so those on a hot path are made once, at import.
    """

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if kind is None or strict or not issubclass(kind, Exception):
            return False
        # The message may hold content (a KeyError's key, a ValueError's text), so only the type is
        # logged.
        _logger.debug("AgentPulse could not %s: %s", self._step, kind.__name__)
        return True
