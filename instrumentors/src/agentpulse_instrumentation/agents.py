"""How many models and tools a run of an agent calls: itself, and not by another agent inside it.

The count travels in OpenTelemetry's context. What a tool calls by itself is the tool's doing: calls
of models in there are still the agent's, other tools are not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from opentelemetry import context as context_api
from opentelemetry.context import Context

_KEY = context_api.create_key("agentpulse-agent")


@dataclass(slots=True, eq=False)
class AgentCalls:
    """The calls of one run, failed ones included. Threads and tasks may add to it at once."""

    inference: int = 0
    tools: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_inference(self) -> None:
        """A model is called."""
        with self._lock:
            self.inference += 1

    def count_tool(self) -> None:
        """A tool is called."""
        with self._lock:
            self.tools += 1


@dataclass(frozen=True, slots=True)
class Inside:
    """Where something happens: in an agent's run, and maybe in a tool that it called."""

    calls: AgentCalls
    is_in_tool: bool = False

    def in_tool(self) -> Inside:
        """A tool is called here: counts it, unless another one called it."""
        if not self.is_in_tool:
            self.calls.count_tool()
        return replace(self, is_in_tool=True)


def inside(context: Context) -> Inside | None:
    """Where what happens in a context happens; None where that is in no agent."""
    found = context.get(_KEY)
    return found if isinstance(found, Inside) else None


def within(place: Inside | None, context: Context) -> Context:
    """The context for what happens there."""
    return context if place is None else context_api.set_value(_KEY, place, context)


def count_inference(context: Context) -> None:
    """A model is called in a context."""
    place = inside(context)
    if place is not None:
        place.calls.count_inference()
