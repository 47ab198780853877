"""`AgentPulse`, which `agentpulse.init` returns: the SDK with its settings, on or off."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from agentpulse._tracing import api, events

if TYPE_CHECKING:
    from agentpulse_exporter import Stats

    from agentpulse._otel.pipeline import Pipeline
    from agentpulse._otel.provider import Joined
    from agentpulse.settings import Settings

lifecycle: threading.RLock = threading.RLock()
"""Held while AgentPulse starts or stops; reentrant, for a signal handler may call `shutdown`."""


def _renew_lifecycle() -> None:
    # A thread that held the lock when the process forked doesn't exist in the child.
    global lifecycle  # noqa: PLW0603  # replaced as a whole, a lock can't be reset
    lifecycle = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lifecycle)


def nothing_recorded() -> Stats:
    """The figures of an SDK that never ran."""
    from agentpulse_exporter import Stats  # only here, so that nothing is loaded where we are off

    return Stats()


class AgentPulse:
    """The SDK as it was set up. Where it is off, every method works and does nothing."""

    session: Final = staticmethod(api.session)
    cron: Final = staticmethod(api.cron)
    agent: Final = api.agent
    task: Final = api.task
    trace: Final = api.trace
    tool: Final = api.tool
    event: Final = staticmethod(events.event)
    metric: Final = staticmethod(events.metric)
    alert: Final = staticmethod(events.alert)
    heartbeat: Final = staticmethod(events.heartbeat)
    memory_report: Final = staticmethod(events.memory_report)
    set_metadata: Final = staticmethod(events.set_metadata)
    set_user: Final = staticmethod(events.set_user)

    def __init__(self, settings: Settings, pipeline: Pipeline | None) -> None:
        """For `agentpulse.init` to call; None as pipeline means off."""
        self.settings: Settings = settings
        self._pipeline = pipeline
        self.is_shut_down: bool = False
        self._is_complete = False
        """Whether nothing was lost, once it is shut down."""
        self.is_automatic: bool = False
        """Whether it was started for a program that has not called `init` by itself so far."""

    def __repr__(self) -> str:
        state = "shut down" if self.is_shut_down else "on" if self._pipeline else "off"
        return f"<AgentPulse {self.settings.agent_name!r}, {state}>"

    @property
    def is_on(self) -> bool:
        """Whether calls are recorded and sent."""
        return self._pipeline is not None and not self.is_shut_down

    @property
    def joined(self) -> Joined | None:
        """The tracer provider in words, with its span processors as they are now.

        None where nothing is recorded. It has `provider` (its class), `processors` (such as
        `BatchSpanProcessor → OTLPSpanExporter`) and `sampling` (how many traces are recorded, where
        that isn't all).
        """
        return self._pipeline.joined() if self._pipeline is not None and self.is_on else None

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends the spans that have ended; waits `timeout` seconds at most. Never raises.

        Returns:
            True only if all were accepted, also by other destinations. A loss that no
            flush has reported so far makes it False, also where it came before.
        """
        return self._pipeline is None or self._pipeline.flush(timeout)

    async def aflush(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109  # it is the server's time, not the task's
        """As `flush`, without stopping the event loop."""
        import asyncio  # only here: it would slow the start of programs down

        return self._pipeline is None or await asyncio.to_thread(self.flush, timeout)

    def stats(self) -> Stats:
        """The counts of the spans that ended since `init`: accepted, queued, dropped by reason."""
        return nothing_recorded() if self._pipeline is None else self._pipeline.stats()

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Takes every patch back, sends the queued spans and stops; works once.

        Returns:
            True only if every span ever recorded was accepted, within `timeout` seconds, also at
            `otlp_endpoint`; the same when it is called again. Exporters of OTEL_TRACES_EXPORTER go
            on: `flush` asks them, too.
        """
        with lifecycle:
            if not self.is_shut_down:
                self.is_shut_down = True
                self._is_complete = self._pipeline is None or self._pipeline.stop(timeout)
            return self._is_complete
