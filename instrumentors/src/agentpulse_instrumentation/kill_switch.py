"""The kill switch: AGENTPULSE_ENABLED, and OTEL_SDK_DISABLED, which is OpenTelemetry's own."""

from __future__ import annotations

import logging
import os

ENABLED_VARIABLE = "AGENTPULSE_ENABLED"
OTEL_SDK_DISABLED = "OTEL_SDK_DISABLED"

_logger = logging.getLogger("agentpulse.instrumentation")
_ON = ("true", "1", "yes", "on", "")
_OFF = ("false", "0", "no", "off")
_warned: set[str] = set()


def is_enabled(argument: bool | None) -> bool:
    """Whether anything may be instrumented: by this argument, else by AGENTPULSE_ENABLED, else yes.

    OTEL_SDK_DISABLED always counts. A variable that can't be read switches off, and is logged once.
    """
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return False
    if argument is not None:
        return argument
    given = os.environ.get(ENABLED_VARIABLE, "").strip().lower()
    if given not in (*_ON, *_OFF) and given not in _warned:
        _warned.add(given)
        _logger.warning(
            "Nothing is instrumented: %s is %r; expected true or false.", ENABLED_VARIABLE, given
        )
    return given in _ON
