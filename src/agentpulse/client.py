"""The client `AgentPulse`, and `init`, `flush`, `shutdown` and `stats`.

There is one client in a process. Nothing of OpenTelemetry is loaded before `init` switches it on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from agentpulse._output import log_to_stderr, logger, warn_once
from agentpulse._tracing import api, events

if TYPE_CHECKING:
    from agentpulse_exporter import Stats
    from agentpulse_exporter.settings import ApiKey
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.trace import TracerProvider

    from agentpulse._otel.pipeline import Pipeline
    from agentpulse._otel.provider import Joined
    from agentpulse.settings import Settings

_lifecycle = threading.RLock()
"""Held while AgentPulse starts or stops; reentrant, for a signal handler may call `shutdown`."""


def _renew_lifecycle() -> None:
    # A thread that held the lock when the process forked doesn't exist in the child.
    global _lifecycle  # noqa: PLW0603  # replaced as a whole, a lock can't be reset
    _lifecycle = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lifecycle)


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
        return _nothing_recorded() if self._pipeline is None else self._pipeline.stats()

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Takes every patch back, sends the queued spans and stops; works once.

        Returns:
            True only if every span ever recorded was accepted, within `timeout` seconds, also at
            `otlp_endpoint`; the same when it is called again. Exporters of OTEL_TRACES_EXPORTER go
            on: `flush` asks them, too.
        """
        with _lifecycle:
            self.is_shut_down = True
            return self._pipeline is None or self._pipeline.stop(timeout)


_client: AgentPulse | None = None
_provider: SdkTracerProvider | None = None
"""The provider that was passed to `init`."""


def init(
    *,
    api_key: str | ApiKey | None = None,
    agent_name: str | None = None,
    endpoint: str | None = None,
    enabled: bool | None = None,
    capture_messages: bool | None = None,
    redact: Callable[[str], str] | None = None,
    auto_patch: bool | None = None,
    instrument: Iterable[str] | None = None,
    flush_interval: float | None = None,
    max_queue_size: int | None = None,
    max_batch_size: int | None = None,
    debug: bool | None = None,
    prices: Mapping[str, object] | str | os.PathLike[str] | None = None,
    export_all_spans: bool | None = None,
    otlp_endpoint: str | None = None,
    shutdown_timeout: float | None = None,
    heartbeat_interval: float | None = None,
    allow_insecure: bool | None = None,
    flush_on_sigterm: bool | None = None,
    tracer_provider: TracerProvider | None = None,
) -> AgentPulse:
    """Switches AgentPulse on: from here on every LLM call of this process is recorded and sent.

    An argument that is None takes the value of its environment variable, or else the default; the
    README lists them all. `tracer_provider` is the provider to join, by default the global one;
    where there is none yet, one is made and set.

    Called again before `shutdown`, it returns the same client, and warns where arguments differ.
    After an automatic start (`opentelemetry-instrument`, `agentpulse dev COMMAND`), the program's
    first call starts AgentPulse anew where its arguments differ.

    Raises:
        SettingError: an argument makes no sense (SettingTypeError, a TypeError, for a wrong type).
            A mistake in the environment never raises: it is logged once, and nothing runs.
    """
    # Only here, so that importing this package loads nothing else.
    from agentpulse_exporter.settings import ApiKey

    from agentpulse.settings import ROWS, resolve, verify

    # From here on no traceback that shows local variables has the key.
    api_key = ApiKey.of(api_key)
    given = verify({name: value for name, value in locals().items() if name in ROWS})
    provider = None
    if tracer_provider is not None:
        # Only here, for it loads the SDK of OpenTelemetry, as the provider's module has already.
        from agentpulse._otel.provider import verify_provider

        provider = verify_provider(tracer_provider)
    global _client, _provider  # one for the process, as OpenTelemetry's provider
    with _lifecycle:
        if _client is not None and _client.is_automatic:
            # The settings of the program come before those of an automatic start.
            _client.is_automatic = False
            if _difference(_client.settings, given, provider):
                _client.shutdown()
        if _client is None or _client.is_shut_down:
            _client, _provider = _start(resolve(given), provider), provider
        else:
            different = _difference(_client.settings, given, provider)
            if different:
                warn_once(
                    f"agentpulse.init was called again with another {', '.join(different)}, which "
                    "has no effect: AgentPulse goes on as it was set up first. Call "
                    "agentpulse.shutdown() before."
                )
        return _client


def shutdown(timeout: float = 5.0) -> bool:
    """Takes every patch back, sends the queued spans and stops; `init` works again afterwards.

    Returns:
        True only if every span ever recorded was accepted, within `timeout` seconds, also at
        `otlp_endpoint`; the same when it is called again. Exporters of OTEL_TRACES_EXPORTER go on:
        `flush` asks them, too.
    """
    return _client is None or _client.shutdown(timeout)


def flush(timeout: float = 5.0) -> bool:
    """Sends the spans that have ended; waits `timeout` seconds at most.

    Returns:
        True only if all were accepted, also by other destinations. A loss that no flush
        has reported so far makes it False, also where it came before. Never raises; before `init`
        there is nothing to send.
    """
    return _client is None or _client.flush(timeout)


async def aflush(timeout: float = 5.0) -> bool:  # noqa: ASYNC109  # it is the server's time, not the task's
    """As `flush`, without stopping the event loop."""
    return _client is None or await _client.aflush(timeout)


def stats() -> Stats:
    """The counts of the spans that ended since `init`; after `shutdown`, the final ones."""
    return _nothing_recorded() if _client is None else _client.stats()


def get_client() -> AgentPulse | None:
    """The client of the last `init`; None before it and after `shutdown`."""
    return None if _client is None or _client.is_shut_down else _client


def _start(settings: Settings, provider: SdkTracerProvider | None) -> AgentPulse:
    from agentpulse.settings import obstacle

    reason = obstacle(settings)
    if reason is not None:
        with ExitStack() as surroundings:
            if settings.debug:
                surroundings.callback(log_to_stderr())
            (logger.debug if reason.deliberate else warn_once)(reason.text)
        return AgentPulse(settings, None)
    try:
        # Only here, so that nothing of it is loaded where AgentPulse is off.
        from agentpulse._otel.pipeline import Pipeline

        pipeline = Pipeline(settings, provider)
    except Exception as error:  # noqa: BLE001  # whatever it is, the user's program runs on without us
        warn_once(f"AgentPulse could not start and is off: {type(error).__name__}: {error}")
        return AgentPulse(settings, None)
    logger.debug("AgentPulse is on: %s sends to %s", settings.agent_name, settings.endpoint)
    return AgentPulse(settings, pipeline)


def _difference(
    current: Settings, given: Mapping[str, object], provider: SdkTracerProvider | None
) -> list[str]:
    """The names of the arguments that differ from the current settings."""
    different = [name for name, value in given.items() if value != getattr(current, name)]
    if provider is not None and provider is not _provider:
        different.append("tracer_provider")
    return different


def _nothing_recorded() -> Stats:
    """The figures of an SDK that never ran."""
    from agentpulse_exporter import Stats  # only here, so that nothing is loaded where we are off

    return Stats()
