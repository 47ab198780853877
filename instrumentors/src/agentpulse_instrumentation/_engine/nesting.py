"""Which layer of a stack records a call of a model, and how many calls an agent's run has made.

The innermost layer that is instrumented records it.

Frameworks run a provider's client underneath. Such an outer layer enters a `Layer` while it is at
work. A recorded call that begins inside takes over its parent and its facts, and marks it as
recorded: an outer layer that calls a model (`operation`) then makes no span of its own, for one
call is one span. A retriever's layer has its span, and only lends it as the parent.

Layers live in a context variable of their own. A layer is marked closed instead of being reset with
a token: frameworks report the end of an asynchronous run in another task, where a reset has no
effect. A closed layer is passed over, and forgotten with the next that is entered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, get_current_span, set_span_in_context

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.operation import INFERENCE, Attributes

# How many models and tools a run of an agent calls: itself, and not by another agent inside it.
#
# The count travels in OpenTelemetry's context. Of the calls that a tool makes, those of models are
# the agent's too, those of other tools are not.

_KEY = context_api.create_key("agentpulse-agent")


class AgentCalls:
    """The agent's run in whose code something happens, and the calls of that run so far.

    Failed ones are included. Threads and signal handlers may add to them.
    """

    __slots__ = ("inference", "is_in_tool", "tools")

    def __init__(self, run: AgentCalls | None = None) -> None:
        """Of a run that begins, or of a tool that `run` calls."""
        self.is_in_tool: bool = run is not None
        # Taking the next number is one step, so there is no lock that a handler could wait for.
        self.inference: Iterator[int] = itertools.count() if run is None else run.inference
        self.tools: Iterator[int] = itertools.count() if run is None else run.tools

    def totals(self) -> tuple[int, int]:
        """How many models and how many tools; to be asked once, when the run is over."""
        return next(self.inference), next(self.tools)


def agent_calls_of(context: Context) -> AgentCalls | None:
    """The agent's run of a context; None outside any."""
    found = context.get(_KEY)
    return found if isinstance(found, AgentCalls) else None


def within(calls: AgentCalls | None, context: Context) -> Context:
    """The context for the code of an agent's run, or of its tool."""
    return context if calls is None else context_api.set_value(_KEY, calls, context)


def count(operation: str, context: Context) -> AgentCalls | None:
    """Counts an operation for the agent around it; returns that for which calls inside it count."""
    if operation == "invoke_agent":
        return AgentCalls()
    around = agent_calls_of(context)
    if around is not None and operation == "execute_tool":
        if not around.is_in_tool:
            next(around.tools)
        return AgentCalls(around)
    if around is not None and operation in INFERENCE:
        next(around.inference)
    return around


@dataclass(slots=True, eq=False)
class Layer:
    """The work of an outer layer, while it is open."""

    ambient: Context
    """The context in which the layer began."""
    parent: Span | None = None
    """The span that calls made here belong to; None for the current one of `ambient`."""
    facts: Attributes = field(default_factory=Attributes)
    """Attributes that a recorded call made here takes over, where it has none of the name."""
    operation: str | None = None
    """That of a layer that calls a model itself. A recorded call of that kind is its call."""
    model: str | None = None
    """The one model whose call this is. A call of another one has nothing to do with it, and only
    one call is made here."""
    around: Layer | None = None
    open: bool = True
    is_recorded: bool = False
    """Whether the layer's call is recorded underneath."""
    spans: list[Span] = field(default_factory=list[Span])
    """The spans of those calls, as far as they have one from their start on."""

    @property
    def context(self) -> Context:
        """The context that is the parent of calls made in the layer."""
        span, ambient = self.parent, self.ambient
        return ambient if span is None else set_span_in_context(span, ambient)

    def context_in(self, ambient: Context) -> Context:
        """The context of a call that the layer makes while `ambient` is the current one."""
        # A span that was started since is nearer to the call than the layer's parent.
        is_nearer = get_current_span(ambient) is not get_current_span(self.ambient)
        return ambient if is_nearer else self.context


_current: ContextVar[Layer | None] = ContextVar("agentpulse_layer", default=None)


def innermost() -> Layer | None:
    """The innermost layer that is open here."""
    layer = _current.get()
    while layer is not None and not layer.open:
        layer = layer.around
    return layer


def enter(layer: Layer) -> None:
    """Makes it the innermost layer of this thread or task, until it is closed."""
    layer.around = innermost()
    _current.set(layer)


def leave(layer: Layer) -> None:
    """Closes it, wherever this is called."""
    layer.open = False
    if _current.get() is layer:
        _current.set(layer.around)


def begin_call(
    operation: str, context: Context, attributes: Attributes
) -> tuple[Context, Sequence[Layer]]:
    """Begins a recorded call in the current `context`.

    Adds what outer layers know of the call to its attributes. The layers that this call belongs to
    make no span of their own, and are given the call's.

    Returns:
        The parent context of the call, and those layers.
    """
    layer = innermost()
    model = attributes.get(semconv.REQUEST_MODEL)
    while layer is not None and not (layer.open and layer.model in (None, model)):
        layer = layer.around
    if layer is None:
        return context, ()
    for name, value in layer.facts.items():
        attributes.setdefault(name, value)
    layers = recorded_layers(layer, operation)
    if layer.model is not None:
        layer.open = False
    return layer.context_in(context), layers


def recorded_layers(layer: Layer | None, operation: str) -> list[Layer]:
    """Marks the layers around a recorded call as recorded, as far as it is their call.

    Returns:
        Those layers.
    """
    recorded: list[Layer] = []
    while layer is not None and layer.operation is not None:
        if _is_same_call(operation, layer.operation):
            layer.is_recorded = True
            recorded.append(layer)
        layer = layer.around
    return recorded


def _is_same_call(operation: str, outer: str) -> bool:
    # A chat model may embed its prompt to look it up in a cache; that is another call.
    return operation == outer or (operation in INFERENCE and outer in INFERENCE)
