"""pydantic-ai: the conventions' words; an agent's span sums its calls up and is none itself."""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.dialect import Dialect, Told, is_no_call, own_cost
from agentpulse_exporter._dialects.genai import QUIRKS, WORDS
from agentpulse_exporter._semconv import text


def _agent(told: Told) -> None:
    if semconv.OPERATION_NAME not in told and (name := text(told, "agent_name")) is not None:
        # Versions before the conventions had a word for it.
        told[semconv.OPERATION_NAME] = "invoke_agent"
        told.setdefault(semconv.AGENT_NAME, name)
    if told.get("logfire.span_type") == "pending_span":
        is_no_call(told)


DIALECT = Dialect(
    scopes=("pydantic-ai", "pydantic_ai"),
    words=WORDS,
    quirks=(*QUIRKS, _agent, own_cost("operation.cost")),
)
