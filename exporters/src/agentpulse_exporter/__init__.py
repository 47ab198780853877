"""Prices spans of LLM calls and agents, and sends them to AgentPulse."""

from __future__ import annotations

from agentpulse_exporter.counters import Stats
from agentpulse_exporter.enriching import CostEnrichingExporter
from agentpulse_exporter.exporter import AgentPulseSpanExporter
from agentpulse_exporter.pricing import calculate_cost
from agentpulse_exporter.processor import AgentPulseSpanProcessor
from agentpulse_exporter.settings import ConfigurationError
from agentpulse_exporter.version import VERSION

__version__ = VERSION

__all__ = [
    "AgentPulseSpanExporter",
    "AgentPulseSpanProcessor",
    "ConfigurationError",
    "CostEnrichingExporter",
    "Stats",
    "__version__",
    "calculate_cost",
]
