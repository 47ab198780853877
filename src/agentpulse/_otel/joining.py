"""Our span processors on a tracer provider: put there, taken off, and put on the one after it."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from agentpulse_instrumentation._shield import shield
from opentelemetry import trace
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from agentpulse._logs import logger, warn_once
from agentpulse._otel.bounded import BoundedBatchProcessor
from agentpulse._otel.provider import (
    attach,
    attached,
    behind,
    class_name,
    detach,
    is_our_own,
    takes_processors,
)
from agentpulse._tracing.processor import SessionProcessor

# What AgentPulse joins, in plain words: a tracer provider, whose it is, and what works on it.
#
# Only looks: nothing of what it finds is called but for what tells of itself.

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
                    return exporter.owner.destination is other.owner.destination
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


# Goes along where a provider that stands in for others gets another one behind it.
#
# `logfire.configure()`, called again, shuts down the provider that it made before, with all
# processors on it, and makes another one without those that others had added.

_PATIENCE = 2.0
"""Seconds; a provider that is set up anew has another one behind it at once."""
_BETWEEN_LOOKS = 0.001


def follow(provider: object, join: Callable[[], None], is_wanted: Callable[[], bool]) -> bool:
    """Has `join` called soon, on a thread of its own, whenever another comes behind the provider.

    That goes on while it is wanted, until none has come for two seconds, for one that is joined may
    be replaced before it could tell.

    Returns:
        Whether that may come about: not where it stands in for none, nor as the process ends.
    """
    ended = behind(provider)
    if ended is provider or not threading.main_thread().is_alive():
        return False

    def watch() -> None:
        known, until = ended, time.monotonic() + _PATIENCE
        while is_wanted() and time.monotonic() < until:
            current = behind(provider)
            if current is not known:
                known, until = current, time.monotonic() + _PATIENCE
                join()
            time.sleep(_BETWEEN_LOOKS)

    try:
        threading.Thread(target=watch, name="agentpulse-follow", daemon=True).start()
    except RuntimeError:  # the interpreter is about to end
        return False
    return True


_DESCRIBE = shield("describe a tracer provider")
_JOIN = shield("join a tracer provider that was set up anew")


class Joining:
    """Holds from `join` until `leave`, also where another provider comes behind this one."""

    def __init__(
        self,
        provider: TracerProvider,
        sessions: SessionProcessor,
        queues: Sequence[AgentPulseSpanProcessor | BoundedBatchProcessor],
    ) -> None:
        self._provider = provider
        self._sessions = sessions
        self._queues = queues
        self._has_left = False
        self._rejoining = threading.Lock()
        self._joined: object = None
        """The provider that our processors are on."""

    def join(self) -> None:
        """Puts our processors on the provider."""
        self._join()
        for each in self._queues:
            each.outlasts = self._is_followed

    def described(self) -> Joined | None:
        """The provider and its processors as they are now; None where they can't be read."""
        with _DESCRIBE:
            return describe(self._provider, self._ours())
        return None

    def leave(self) -> None:
        """Takes our processors off the provider."""
        self._has_left = True
        for each in self._ours():
            detach(self._provider, each)

    def _ours(self) -> list[SpanProcessor]:
        return [self._sessions, *self._queues]

    def _join(self) -> None:
        self._joined = behind(self._provider)
        # Sessions before all: other processors tell of spans as they are when they start, too.
        attach(self._provider, self._sessions, first=True)
        # The queues behind all: those of others need not wait until ours are flushed.
        for each in self._queues:
            attach(self._provider, each)

    def _is_followed(self) -> bool:
        return follow(self._provider, self._rejoin, lambda: not self._has_left)

    def _rejoin(self) -> None:
        # A provider may be shut down more than once, and each time somebody follows.
        with _JOIN, self._rejoining:
            if behind(self._provider) is self._joined:
                return
            self._join()
            if self._has_left:
                self.leave()
            logger.debug("The tracer provider was set up anew, and AgentPulse joined it again")


def say(joined: Joined) -> None:
    """Logs what was joined, and warns where somebody's sampler thins out what is told of.

    Whoever set it by its standard variable knows of it.
    """
    processors = "; ".join(joined.processors)
    logger.debug("Tracer provider: %s. Its span processors: %s", joined.provider, processors)
    if joined.sampling is not None and not os.environ.get(OTEL_TRACES_SAMPLER):
        warn_once(
            f"The tracer provider has a sampler: {joined.sampling}, and AgentPulse is told of "
            "no more calls, nor of their cost, than these."
        )
