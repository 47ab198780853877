"""The span processors of a provider: which there are, and how ours get there and off again.

The SDK can add processors, but neither show them, nor take one off, nor put one first. So private
names of the SDK are touched here, and in this module only; where they changed, we do without.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from agentpulse.logs import logger

Processors = tuple[SpanProcessor, ...]


def class_name(thing: object) -> str:
    """The full name of its class."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def behind(provider: object) -> object:
    """The provider that this one stands in for, as logfire's proxy does; else itself."""
    return (
        provider
        if isinstance(provider, TracerProvider)
        else getattr(provider, "provider", provider)
    )


def attached(provider: object) -> Processors:
    """The processors of a provider in the order in which they are called; none where none show."""
    active = getattr(behind(provider), "_active_span_processor", None)
    found: object = getattr(active, "_span_processors", ())
    if not isinstance(found, tuple):
        return ()
    return tuple(each for each in found if isinstance(each, SpanProcessor))  # pyright: ignore[reportUnknownVariableType]  # it may hold anything


def attach(provider: TracerProvider, processor: SpanProcessor, *, first: bool = False) -> None:
    """Adds a processor; `first`, before those that are there, as far as the SDK lets us."""
    provider.add_span_processor(processor)
    if first:
        _arrange(provider, lambda others: (processor, *_without(processor, others)))


def detach(provider: TracerProvider, processor: SpanProcessor) -> None:
    """Takes a processor off a provider; where the SDK changed so that we can't, it stays, inert."""
    if not _arrange(provider, lambda others: _without(processor, others)):
        logger.debug("AgentPulse's span processor stays on %s, inert", class_name(provider))


def _arrange(provider: TracerProvider, arranged: Callable[[Processors], Processors]) -> bool:
    """Has a provider call other processors, or in another order; whether that was possible."""
    active = getattr(behind(provider), "_active_span_processor", None)
    lock = getattr(active, "_lock", None)
    if active is None or lock is None:
        return False
    with lock:
        found: object = getattr(active, "_span_processors", None)
        if not isinstance(found, tuple):
            return False
        active._span_processors = arranged(found)  # noqa: SLF001  # see the module  # pyright: ignore[reportUnknownArgumentType]  # the same
    return True


def _without(processor: SpanProcessor, others: Processors) -> Processors:
    return tuple(other for other in others if other is not processor)
