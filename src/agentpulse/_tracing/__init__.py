"""Sessions, cron runs, and spans of the program's own functions; `active` is the switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentpulse._tracing.recorder import Recorder

active: Recorder | None = None
"""The recorder in use; None where AgentPulse is off, and nothing is recorded."""
