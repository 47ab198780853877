"""What AgentPulse joins, in plain words: a tracer provider, whose it is, and what works on it.

Only looks: nothing of what it finds is called but for what tells of itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

from agentpulse_exporter import AgentPulseSpanExporter
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from agentpulse.attachment import attached, behind, class_name
from agentpulse.provider import is_our_own, takes_processors

NONE_SET = "none is set, so agentpulse.init makes one"
_Part = TypeVar("_Part")
_SDK = "opentelemetry"
_OURS = "agentpulse"
_DEEPEST = 16
"""Wrappers around wrappers; whoever has more is going in circles."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A tracer provider in words."""

    provider: str
    """Whose it is, and its class."""
    processors: tuple[str, ...]
    """In the order in which they are called, such as `BatchSpanProcessor → OTLPSpanExporter`."""
    sampling: str | None
    """How many traces are recorded, where that isn't all."""


def describe(provider: object, ours: Collection[SpanProcessor] = ()) -> Joined:
    """A provider in words; `ours` are the processors that AgentPulse put there."""
    if isinstance(provider, trace.ProxyTracerProvider):
        return Joined(NONE_SET, (), None)
    found = [line for each in attached(provider) for line in _lines(each, ours)]
    sampler = getattr(behind(provider), "sampler", None)
    return Joined(
        f"{_whose(provider)} ({class_name(provider)})",
        tuple(found),
        None if sampler is None else sampling_in_words(str(sampler.get_description())),
    )


def sampling_in_words(description: str) -> str | None:
    """How many traces a sampler records, by how it describes itself; None where it is all."""
    # Those with a parent are recorded where it was, so the others decide.
    parent_based = re.match(r"ParentBased\{root:(.+?),remoteParent", description)
    root = parent_based[1] if parent_based else description
    ratio = re.fullmatch(r"TraceIdRatioBased\{([0-9.e-]+)\}", root)
    if root == "AlwaysOnSampler" or (ratio and float(ratio[1]) >= 1):
        return None
    if root == "AlwaysOffSampler":
        return "0 of 100 traces are recorded"
    if ratio:
        return f"{float(ratio[1]) * 100:g} of 100 traces are recorded"
    return f"traces are recorded as {description} decides"


def _whose(provider: object) -> str:
    if is_our_own(provider):
        return "AgentPulse's own"
    if not takes_processors(provider):
        return "one that takes no span processors"
    owner = _root(provider)
    if owner != _SDK:
        return "the program's" if owner == "__main__" else f"{owner}'s"
    resource = getattr(provider, "resource", None)
    if "telemetry.auto.version" in getattr(resource, "attributes", {}):
        return "set up by OpenTelemetry's auto-instrumentation"
    roots = sorted({_root(each) for each in attached(provider)} - {_SDK, "__main__"})
    others = " and ".join(root for root in roots if not root.startswith(_OURS))
    return f"set up by the program, with {others}" if others else "set up by the program"


def _lines(processor: SpanProcessor, ours: Collection[SpanProcessor]) -> Iterator[str]:
    is_ours = any(processor is each for each in ours)
    for inner, exporters in _leaves(processor, set()):
        line = " → ".join(type(each).__name__ for each in (inner, *_shown(exporters)))
        if is_ours:
            yield f"{line} (AgentPulse)"
        elif any(_stands_aside(each, ours) for each in exporters):
            yield f"{line} (stands aside for AgentPulse)"
        else:
            yield line


def _shown(exporters: list[SpanExporter]) -> list[SpanExporter]:
    """Of what others wrap, the last one tells where spans go; of ours, each one matters."""
    return [
        each
        for each in exporters
        if each is exporters[-1]
        or (_root(each).startswith(_OURS) and not type(each).__name__.startswith("_"))
    ]


def _stands_aside(exporter: SpanExporter, ours: Collection[SpanProcessor]) -> bool:
    if not isinstance(exporter, AgentPulseSpanExporter):
        return False
    for each in ours:
        for _, others in _leaves(each, set()):
            for other in others:
                if isinstance(other, AgentPulseSpanExporter):
                    return exporter.claimant.shares_with(other.claimant)
    return False


def _leaves(
    processor: SpanProcessor, seen: set[int]
) -> Iterator[tuple[SpanProcessor, list[SpanExporter]]]:
    """The processors that a processor consists of, without wrappers, each with its exporters."""
    if id(processor) in seen:
        return
    seen.add(id(processor))
    inner = _parts(processor, SpanProcessor)
    for each in inner:
        yield from _leaves(each, seen)
    if not inner:
        yield processor, _chain(processor)


def _chain(holder: object) -> list[SpanExporter]:
    """The exporter of a processor, and those inside of it, the innermost last."""
    chain: list[SpanExporter] = []
    while len(chain) < _DEEPEST:
        inner = _parts(holder, SpanExporter)
        if not inner:
            break
        holder = inner[0]
        chain.append(inner[0])
    return chain


def _parts(whole: object, kind: type[_Part]) -> list[_Part]:
    """The parts of this kind, whatever their names, which every wrapper chooses for itself."""
    values: list[object] = [*vars(whole).values()] if hasattr(whole, "__dict__") else []
    # The SDK's batch processor has it one step further inside.
    values.append(getattr(whole, "span_exporter", None))
    flat: list[object] = []
    for value in values:
        flat.extend(value if isinstance(value, (list, tuple)) else (value,))  # pyright: ignore[reportUnknownArgumentType]  # they may hold anything
    found = [each for each in flat if isinstance(each, kind)]
    return list({id(each): each for each in found}.values())


def _root(thing: object) -> str:
    """The package that the class of a thing comes from."""
    return type(thing).__module__.partition(".")[0]
