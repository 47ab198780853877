"""`init` and the functions beside it: the one `AgentPulse` of a process, started and stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from agentpulse import client
from agentpulse._output import log_to_stderr, logger, warn_once
from agentpulse.client import AgentPulse, nothing_recorded

if TYPE_CHECKING:
    from agentpulse_exporter import Stats
    from agentpulse_exporter.settings import ApiKey
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.trace import TracerProvider

    from agentpulse.settings import Settings

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
    with client.lifecycle:
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
    return nothing_recorded() if _client is None else _client.stats()


def get_client() -> AgentPulse | None:
    """The client of the last `init`; None before it and after `shutdown`."""
    return None if _client is None or _client.is_shut_down else _client


def _start(settings: Settings, provider: SdkTracerProvider | None) -> AgentPulse:
    from agentpulse._otel.environment import obstacle

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
