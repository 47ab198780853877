"""The recorder that runs now. None where AgentPulse is off; then everything passes straight by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentpulse._tracing.recorder import Recorder

recorder: Recorder | None = None
