"""What `agentpulse status` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing."""

    is_well: bool | None
    """None where that can't be told, or doesn't matter."""
    said: str
