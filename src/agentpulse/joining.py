"""Our span processors on a tracer provider: put there, taken off, and put on the one after it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from agentpulse_exporter import AgentPulseSpanProcessor
from agentpulse_instrumentation.shield import shield
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from agentpulse.attachment import attach, behind, detach
from agentpulse.bounded import BoundedBatchProcessor
from agentpulse.following import follow
from agentpulse.joined import Joined, describe
from agentpulse.logs import logger, warn_once
from agentpulse.processor import SessionProcessor

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
