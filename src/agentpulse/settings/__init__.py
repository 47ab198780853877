"""What the user tells the SDK: one table, resolved from arguments and environment."""

from agentpulse.settings.resolution import resolve, verify
from agentpulse.settings.table import ROWS, Row, Settings, documentation_rows

__all__ = ["ROWS", "Row", "Settings", "documentation_rows", "resolve", "verify"]
