"""pydantic-ai: the conventions' words; an agent's span sums its calls up and is none itself."""

from __future__ import annotations

from agentpulse_exporter import names
from agentpulse_exporter.dialects.dialect import Dialect, Told, is_no_call, own_cost
from agentpulse_exporter.dialects.genai import QUIRKS, WORDS
from agentpulse_exporter.reading import text


def _agent(told: Told) -> None:
    if names.OPERATION_NAME not in told and (name := text(told, "agent_name")) is not None:
        # Versions before the conventions had a word for it.
        told[names.OPERATION_NAME] = "invoke_agent"
        told.setdefault(names.AGENT_NAME, name)
    if told.get("logfire.span_type") == "pending_span":
        is_no_call(told)


DIALECT = Dialect(
    scopes=("pydantic-ai", "pydantic_ai"),
    words=WORDS,
    quirks=(*QUIRKS, _agent, own_cost("operation.cost")),
)
