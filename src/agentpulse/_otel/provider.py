"""The tracer provider that AgentPulse joins, and our span processors on it.

OpenTelemetry's global provider can be set once in a process, so where there is none ours is made
once and used again by every later `init`. The SDK can add processors, but neither list them, nor
remove one, nor put one first. So private names of the SDK are touched here, and in this module
only; where they changed, we do without.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from agentpulse_exporter._delivery.queue import QueueProcessor
from opentelemetry import trace
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.util.types import AttributeValue

from agentpulse import __version__
from agentpulse._output import logger, warn_once
from agentpulse._process import patch
from agentpulse._tracing.spans import SessionProcessor
from agentpulse.errors import SettingTypeError

_RENEW = "set_provider"
"""By this, Logfire's proxy gets another provider behind it."""
_HOLDING = ("span_exporter", "_exporter", "inner")
"""The attributes of processors and exporters, of the SDK and of ours, that hold an exporter."""
_DEEPEST = 4
Processors = tuple[SpanProcessor, ...]

_own: TracerProvider | None = None


def class_name(thing: object) -> str:
    """The full name of its class."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def behind(provider: object) -> object:
    """The provider that this one stands in for, as logfire's proxy does; else itself."""
    is_one = isinstance(provider, TracerProvider)
    return provider if is_one else getattr(provider, "provider", provider)


class UrandomIds(IdGenerator):
    """Ids from the operating system.

    The SDK takes them from `random`, where a program that seeds it repeats the ids of its last run.
    """

    def generate_span_id(self) -> int:
        """Eight random bytes, not all zero."""
        return int.from_bytes(os.urandom(8)) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """Sixteen random bytes, not all zero."""
        return int.from_bytes(os.urandom(16)) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Lets samplers of other services rely on the id."""
        return True


def takes_processors(provider: object) -> TypeGuard[TracerProvider]:
    """Whether it is the SDK's provider, or stands in for one, as logfire's proxy does."""
    return all(
        callable(getattr(each, "add_span_processor", None)) for each in (provider, behind(provider))
    )


def verify_provider(provider: object) -> TracerProvider:
    """The provider that was passed to `init`.

    Raises:
        SettingTypeError: it doesn't take span processors.
    """
    if takes_processors(provider):
        return provider
    complaint = (
        f"The argument tracer_provider is a {class_name(provider)}, which takes no span "
        "processors; expected a TracerProvider of the OpenTelemetry SDK. Where it is Logfire's, "
        "call logfire.configure() before agentpulse.init."
    )
    raise SettingTypeError(complaint)


def find_provider(agent_name: str) -> TracerProvider:
    """The global provider, which is made and set where there is none.

    Where the global one takes no span processors, ours is kept beside it, for our spans alone.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, trace.ProxyTracerProvider):
        trace.set_tracer_provider(_our_own(agent_name))
        # Another thread may have been faster; then its provider is the global one.
        current = trace.get_tracer_provider()
    if takes_processors(current):
        return current
    warn_once(
        f"The global tracer provider is a {class_name(current)}, which takes no span processors, "
        "so AgentPulse records LLM calls on a provider of its own, apart from your traces. To join "
        "them, pass tracer_provider= a TracerProvider of the OpenTelemetry SDK."
    )
    return _our_own(agent_name)


def _our_own(agent_name: str) -> TracerProvider:
    global _own  # noqa: PLW0603  # as OpenTelemetry's, it is one for the process
    if _own is None:
        resource = Resource.create(naming(agent_name))
        _own = TracerProvider(resource=resource, id_generator=UrandomIds())
    return _own


def naming(agent_name: str) -> dict[str, AttributeValue]:
    """The resource attributes that name us, and the program where no standard variable does."""
    name = str(Resource.create().attributes.get(SERVICE_NAME, ""))
    ours: dict[str, AttributeValue] = {
        "telemetry.distro.name": "agentpulse-sdk",
        "telemetry.distro.version": __version__,
    }
    # The SDK's placeholder.
    return {SERVICE_NAME: agent_name, **ours} if name.startswith("unknown_service") else ours


@dataclass(frozen=True, slots=True)
class Joined:
    """A tracer provider in words."""

    provider: str
    """Its class, and whether AgentPulse made it."""
    processors: tuple[str, ...]
    """In the order in which they are called, such as `BatchSpanProcessor → OTLPSpanExporter`."""
    sampling: str | None
    """How many traces are recorded, where that isn't all."""

    def log(self) -> None:
        """Logs it, and warns of a sampler that no standard variable of OpenTelemetry sets."""
        processors = "; ".join(self.processors)
        logger.debug("Tracer provider: %s. Its span processors: %s", self.provider, processors)
        if self.sampling is not None and not os.environ.get(OTEL_TRACES_SAMPLER):
            warn_once(
                f"The tracer provider has a sampler: {self.sampling}, and AgentPulse records no "
                "other calls, nor their cost."
            )


def describe(provider: object, ours: Collection[SpanProcessor] = ()) -> Joined:
    """A provider in words; `ours` are the processors that AgentPulse added."""
    if isinstance(provider, trace.ProxyTracerProvider):
        return Joined("none is set, so agentpulse.init makes one", (), None)
    name = class_name(provider)
    sampler = getattr(behind(provider), "sampler", None)
    return Joined(
        f"AgentPulse's own ({name})" if provider is _own else name,
        tuple(_line(each, ours) for each in attached(provider)),
        None if sampler is None else sampling_in_words(str(sampler.get_description())),
    )


def sampling_in_words(description: str) -> str | None:
    """How many traces a sampler records, by its own description; None where it is all."""
    # Spans with a parent follow their parent, so the sampler of root spans decides.
    known = re.match(
        r"(?:ParentBased\{root:)?(?:TraceIdRatioBased\{([0-9.e-]+)\}|Always(On|Off)Sampler)(?:,|$)",
        description,
    )
    if known is None:
        return f"traces are recorded as {description} decides"
    share = float(known[1] or known[2] == "On")
    return None if share >= 1 else f"{share * 100:g} of 100 traces are recorded"


def _line(processor: SpanProcessor, ours: Collection[SpanProcessor]) -> str:
    held: object = processor
    names: list[str] = []
    while held is not None and len(names) < _DEEPEST:
        names.append(type(held).__name__)
        held = next(filter(None, (getattr(held, name, None) for name in _HOLDING)), None)
    return " → ".join(names) + (" (AgentPulse)" if processor in ours else "")


def attached(provider: object) -> Processors:
    """The processors of a provider in the order in which they are called."""
    active = getattr(behind(provider), "_active_span_processor", None)
    found: object = getattr(active, "_span_processors", ())
    return cast("Processors", found) if isinstance(found, tuple) else ()


def _arrange(provider: object, arranged: Callable[[Processors], Processors]) -> None:
    """Replaces the processors of a provider, where that is possible."""
    active: Any = getattr(behind(provider), "_active_span_processor", None)
    lock = getattr(active, "_lock", None)
    if lock is not None and hasattr(active, "_span_processors"):
        with lock:
            active._span_processors = arranged(attached(provider))  # noqa: SLF001  # see the module


def join(
    provider: TracerProvider,
    sessions: SessionProcessor,
    queues: Sequence[QueueProcessor],
    undo: ExitStack,
) -> None:
    """Adds our processors to a provider; `undo` removes them.

    They can't be removed if the SDK's private attributes have changed. If Logfire's provider gets
    another provider behind it (`logfire.configure()`, called again, shuts the first one down), they
    are added to that one too.
    """
    ours = (sessions, *queues)

    def add() -> None:
        # Sessions first: other processors read a span's attributes when it starts. The queues last:
        # the processors of others need not wait until ours are flushed.
        for each in ours:
            provider.add_span_processor(each)
        _arrange(provider, lambda all_: (sessions, *(p for p in all_ if p is not sessions)))

    def add_again() -> None:
        if sessions not in attached(provider):
            add()
            logger.debug("The tracer provider was set up again, and AgentPulse joined it")

    add()
    undo.callback(_arrange, provider, lambda all_: tuple(p for p in all_ if p not in ours))
    if behind(provider) is not provider and hasattr(provider, _RENEW):
        patch(undo, provider, _RENEW, after=add_again)
        for each in queues:
            # As the process ends, a shutdown of the provider is final.
            each.outlasts = threading.main_thread().is_alive
