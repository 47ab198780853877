"""AgentPulse: every LLM call of an agent with its model, tokens, cost, latency and errors.

`agentpulse.init()` switches it on. Importing this package loads neither OpenTelemetry nor any
client library; modules that need them are loaded on use.
"""

from __future__ import annotations

__version__ = "2.0.0"  # before the imports, for modules of ours that read it

from importlib import import_module
from typing import TYPE_CHECKING

from agentpulse._tracing.api import Block, Cron, Session, agent, cron, session, task, tool, trace
from agentpulse._tracing.events import (
    alert,
    event,
    heartbeat,
    memory_report,
    metric,
    set_metadata,
    set_user,
)
from agentpulse.client import AgentPulse, aflush, flush, get_client, init, shutdown, stats
from agentpulse.errors import AgentPulseError, SettingError, SettingTypeError

if TYPE_CHECKING:
    from agentpulse_exporter import Stats, calculate_cost

__all__ = [
    "AgentPulse",
    "AgentPulseError",
    "Block",
    "Cron",
    "Session",
    "SettingError",
    "SettingTypeError",
    "Stats",
    "__version__",
    "aflush",
    "agent",
    "alert",
    "calculate_cost",
    "cron",
    "event",
    "flush",
    "get_client",
    "heartbeat",
    "init",
    "memory_report",
    "metric",
    "session",
    "set_metadata",
    "set_user",
    "shutdown",
    "stats",
    "task",
    "tool",
    "trace",
]


def __getattr__(name: str) -> object:
    if name not in ("Stats", "calculate_cost"):
        message = f"module 'agentpulse' has no attribute {name!r}"
        raise AttributeError(message)
    value = globals()[name] = getattr(import_module("agentpulse_exporter"), name)
    return value
