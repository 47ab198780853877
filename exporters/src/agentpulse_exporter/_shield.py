"""The shield: a failure of ours costs the field that was being made, never its event."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_logger = logging.getLogger("agentpulse.exporter")
_warned: set[str] = set()

strict = False
"""Whether failures are raised; for tests."""


def shielded(step: str, make: Callable[[], _T], otherwise: _T) -> _T:
    """The result of `make`, or `otherwise` where it raises, which is logged once for each step.

    Args:
        step: Completes the sentence "AgentPulse could not …".
        make: Makes a field, or a few.
        otherwise: The result without it.
    """
    try:
        return make()
    except Exception as error:  # the event is sent without that field
        if strict:
            raise
        # The message may hold content, so only the type is logged.
        if step not in _warned:
            _warned.add(step)
            _logger.warning(
                "AgentPulse could not %s (%s), and goes on without; this is logged once.",
                step,
                type(error).__name__,
            )
        return otherwise
