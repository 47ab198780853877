"""Prices spans of LLM calls and agents, and sends them to AgentPulse.

Each name is loaded when it is used first: prices and settings need nothing of OpenTelemetry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentpulse_exporter._delivery.stats import Stats
    from agentpulse_exporter._pricing import calculate_cost
    from agentpulse_exporter.enriching import CostEnrichingExporter
    from agentpulse_exporter.exporter import AgentPulseSpanExporter
    from agentpulse_exporter.processor import AgentPulseSpanProcessor
    from agentpulse_exporter.settings import ConfigurationError

__version__ = "2.0.0"

__all__ = [
    "AgentPulseSpanExporter",
    "AgentPulseSpanProcessor",
    "ConfigurationError",
    "CostEnrichingExporter",
    "Stats",
    "__version__",
    "calculate_cost",
]

_LOADED_ON_USE = {
    "AgentPulseSpanExporter": "exporter",
    "AgentPulseSpanProcessor": "processor",
    "ConfigurationError": "settings",
    "CostEnrichingExporter": "enriching",
    "Stats": "_delivery.stats",
    "calculate_cost": "_pricing",
}


def __getattr__(name: str) -> object:
    if name not in _LOADED_ON_USE:
        message = f"module 'agentpulse_exporter' has no attribute {name!r}"
        raise AttributeError(message)
    module = import_module(f"agentpulse_exporter.{_LOADED_ON_USE[name]}")
    value = globals()[name] = getattr(module, name)
    return value
