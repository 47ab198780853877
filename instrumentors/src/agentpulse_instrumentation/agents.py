"""How many models and tools a run of an agent calls: itself, and not by another agent inside it.

The count travels in OpenTelemetry's context. What a tool calls by itself is the tool's doing: calls
of models in there are still the agent's, other tools are not.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from opentelemetry import context as context_api
from opentelemetry.context import Context

_KEY = context_api.create_key("agentpulse-agent")


class AgentCalls:
    """The calls of one run, failed ones included. Threads and signal handlers may add to it."""

    __slots__ = ("_inference", "_tools")

    def __init__(self) -> None:
        # Taking the next number is one step, so there is no lock that a handler could wait for.
        self._inference, self._tools = itertools.count(), itertools.count()

    def count_inference(self) -> None:
        """A model is called."""
        next(self._inference)

    def count_tool(self) -> None:
        """A tool is called."""
        next(self._tools)

    def totals(self) -> tuple[int, int]:
        """How many models and how many tools; to be asked once, when the run is over."""
        return next(self._inference), next(self._tools)


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
