"""Our span processors on a tracer provider: added, removed, and described for people.

The SDK can add processors, but neither list them, nor remove one, nor put one first. So private
names of the SDK are touched here, and in this module only; where they changed, we do without.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agentpulse_exporter import AgentPulseSpanProcessor
from agentpulse_instrumentation._shield import shield
from opentelemetry import trace
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from agentpulse._otel.bounded import BoundedBatchProcessor
from agentpulse._otel.environment import logger, warn_once
from agentpulse._otel.provider import behind, class_name, is_our_own
from agentpulse._tracing.scope import SessionProcessor

_DESCRIBE = shield("describe a tracer provider")
_JOIN = shield("join a tracer provider that was set up again")
_RENEW = "set_provider"
"""By this, Logfire's proxy gets another provider behind it."""
_HOLDING = ("span_exporter", "_exporter", "_inner")
"""The attributes of processors and exporters, of the SDK and of ours, that hold an exporter."""
_DEEPEST = 4
Processors = tuple[SpanProcessor, ...]


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
        logger.debug(
            "Tracer provider: %s. Its span processors: %s",
            self.provider,
            "; ".join(self.processors),
        )
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
        f"AgentPulse's own ({name})" if is_our_own(provider) else name,
        tuple(_line(each, ours) for each in attached(provider)),
        None if sampler is None else sampling_in_words(str(sampler.get_description())),
    )


def sampling_in_words(description: str) -> str | None:
    """How many traces a sampler records, by its own description; None where it is all."""
    # Spans with a parent follow their parent, so the sampler of root spans decides.
    parent_based = re.match(r"ParentBased\{root:(.+?),remoteParent", description)
    root = parent_based[1] if parent_based else description
    ratio = re.fullmatch(r"TraceIdRatioBased\{([0-9.e-]+)\}", root)
    share = {"AlwaysOnSampler": 1.0, "AlwaysOffSampler": 0.0}.get(root)
    share = float(ratio[1]) if ratio else share
    if share is None:
        return f"traces are recorded as {description} decides"
    return None if share >= 1 else f"{share * 100:g} of 100 traces are recorded"


def _line(processor: SpanProcessor, ours: Collection[SpanProcessor]) -> str:
    held: object = processor
    names: list[str] = []
    while held is not None and len(names) < _DEEPEST:
        names.append(type(held).__name__)
        held = next(filter(None, (getattr(held, name, None) for name in _HOLDING)), None)
    is_ours = any(processor is each for each in ours)
    return " → ".join(names) + (" (AgentPulse)" if is_ours else "")


def attached(provider: object) -> Processors:
    """The processors of a provider in the order in which they are called."""
    active = getattr(behind(provider), "_active_span_processor", None)
    found: object = getattr(active, "_span_processors", ())
    return cast("Processors", found) if isinstance(found, tuple) else ()


def _arrange(provider: object, arranged: Callable[[Processors], Processors]) -> bool:
    """Replaces the processors of a provider; whether that was possible."""
    active: Any = getattr(behind(provider), "_active_span_processor", None)
    lock = getattr(active, "_lock", None)
    if lock is None or not isinstance(getattr(active, "_span_processors", None), tuple):
        return False
    with lock:
        active._span_processors = arranged(active._span_processors)  # noqa: SLF001  # see the module
    return True


class Joining:
    """Our processors on a provider from `join` until `leave`.

    Where Logfire's provider gets another provider behind it (`logfire.configure()`, called again,
    shuts the first one down), they are added to that one too.
    """

    def __init__(
        self,
        provider: TracerProvider,
        sessions: SessionProcessor,
        queues: Sequence[AgentPulseSpanProcessor | BoundedBatchProcessor],
    ) -> None:
        self._provider: Any = provider
        self._sessions = sessions
        self._queues = queues
        self._renew: Any = None

    def join(self) -> None:
        """Adds our processors to the provider."""
        self._add()
        renew: Any = getattr(self._provider, _RENEW, None)
        if behind(self._provider) is self._provider or renew is None:
            return

        def renewed(*args: Any, **kwargs: Any) -> Any:
            result = renew(*args, **kwargs)
            with _JOIN:
                is_joined = any(each is self._sessions for each in attached(self._provider))
                if self._renew is not None and not is_joined:
                    self._add()
                    logger.debug("The tracer provider was set up again, and AgentPulse joined it")
            return result

        self._renew = renewed
        setattr(self._provider, _RENEW, renewed)
        for each in self._queues:
            # As the process ends, whoever shuts the provider down shuts it down for good.
            each.outlasts = threading.main_thread().is_alive

    def described(self) -> Joined | None:
        """The provider and its processors as they are now; None where they can't be read."""
        with _DESCRIBE:
            return describe(self._provider, self._ours())
        return None

    def leave(self) -> None:
        """Removes our processors from the provider; where the SDK changed, they stay, inert."""
        if self._renew is not None and getattr(self._provider, _RENEW) is self._renew:
            delattr(self._provider, _RENEW)
        self._renew = None
        ours = self._ours()
        if not _arrange(self._provider, lambda all_: tuple(p for p in all_ if p not in ours)):
            name = class_name(self._provider)
            logger.debug("AgentPulse's span processors stay on %s, inert", name)

    def _ours(self) -> list[SpanProcessor]:
        return [self._sessions, *self._queues]

    def _add(self) -> None:
        # Sessions first: other processors read a span's attributes when it starts. The queues last:
        # the processors of others need not wait until ours are flushed.
        for each in self._ours():
            self._provider.add_span_processor(each)
        first = self._sessions
        _arrange(self._provider, lambda all_: (first, *(p for p in all_ if p is not first)))
