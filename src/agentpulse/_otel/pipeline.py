"""What runs while AgentPulse is on: exporter and processor on a tracer provider, and patches."""

from __future__ import annotations

import platform
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor, Stats
from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._delivery.process import at_exit
from agentpulse_exporter._delivery.waits import bounded
from agentpulse_exporter._wire.json import MAX_LABEL, clean
from agentpulse_exporter.settings import DEFAULT
from agentpulse_instrumentation import INSTRUMENTORS, instrument, not_recorded, uninstrument
from agentpulse_instrumentation._engine.content import ContentPolicy
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from agentpulse._logs import log_to_stderr
from agentpulse._otel.joining import Joined, Joining, say
from agentpulse._otel.otlp import Elsewhere
from agentpulse._otel.provider import find_provider
from agentpulse._process.context import carry_context
from agentpulse._process.crashes import CrashHooks
from agentpulse._process.signals import TerminationFlush, end_with_celery_workers
from agentpulse._tracing import active
from agentpulse._tracing.processor import SessionProcessor
from agentpulse._tracing.recorder import Recorder, instant
from agentpulse.settings import STANDARD_CAPTURE_VARIABLE, Settings
from agentpulse.version import VERSION

# The `sdk_init` event: where this program runs, with which versions, and what it joined.


def installed_version(distribution: str) -> str | None:
    """The version that is installed, without importing it; None where none is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def sdk_init(joined: Joined | None, heartbeat_interval: float) -> ReadableSpan:
    """The event that `init` sends; `joined`, what it joined, where that is known."""
    kinds = INSTRUMENTORS.values()
    instrumented = [library.package for kind in kinds for library in kind.libraries()]
    versions = ((name, installed_version(name)) for name in instrumented)
    libraries = tuple(f"{name} {found}" for name, found in versions if found is not None)
    told: dict[str, object] = {
        "python": platform.python_version(),
        "os": platform.system(),
        "architecture": platform.machine(),
        "sdk_version": VERSION,
        "libraries": libraries,
        "program": _program(),
        # So that a receiver knows from when on silence means that this process was killed.
        "heartbeat_interval": heartbeat_interval,
    }
    if joined is not None:
        told["tracer_provider"] = joined.provider
        told["span_processors"] = joined.processors
        if joined.sampling is not None:
            told["sampling"] = joined.sampling
    return instant(
        "sdk_init",
        "sdk_init",
        {semconv.DATA_PREFIX + field: value for field, value in told.items()},
    )


def _program() -> str:
    """The base name of what Python was started with; `-c` and the empty name as they are."""
    # Where Python is embedded, there may be no arguments, and programs change them as they like.
    arguments: object = getattr(sys, "argv", None)
    given = cast("list[object]", arguments) if isinstance(arguments, list) else []
    first = given[0] if given else ""
    return clean(Path(first).name, MAX_LABEL) if isinstance(first, str) else ""


class Pipeline:
    """Runs from when it is made until `stop`, which takes everything back."""

    def __init__(self, settings: Settings, tracer_provider: TracerProvider | None) -> None:
        """Starts on this provider, or (None) on the global one."""
        self._sources = ExitStack()
        """Takes back what brings spans in."""
        self._surroundings = ExitStack()
        """Takes back what the processor needs while it sends the last of them."""
        self.processor = _processor(settings)
        if settings.debug:
            self._surroundings.callback(log_to_stderr())
        self._elsewhere = Elsewhere(settings)
        self._shutdown_timeout = settings.shutdown_timeout
        self._libraries = settings.instrument if settings.auto_patch else ()
        try:
            provider = tracer_provider or find_provider(settings.agent_name)
            # What is registered last is called first. So this comes before the provider's own end,
            # which would wait for one processor after the other, and after what brings in the last
            # spans, such as those of streams that are still open.
            at_exit(self._at_exit)
            self._joining = self._connect(settings, provider)
        except BaseException:
            self.stop(timeout=0)
            raise
        joined = self.joined()
        if joined is not None:
            say(joined)
        self.processor.enqueue(sdk_init(joined, settings.heartbeat_interval))

    def joined(self) -> Joined | None:
        """The provider and its processors as they are now; None where they can't be read."""
        return self._joining.described()

    def stats(self) -> Stats:
        """What became of all that ended, here and elsewhere, and what isn't recorded."""
        return replace(
            self.processor.stats(),
            elsewhere=self._elsewhere.stats(),
            not_recorded=not_recorded(self._libraries),
        )

    def flush(self, timeout: float) -> bool:
        """Sends what has ended until now, to AgentPulse and to whom else it goes, at the same time.

        Returns:
            Whether all of it was accepted within the timeout, in seconds.
        """
        deadline = time.monotonic() + bounded(timeout)
        is_sent_elsewhere = self._elsewhere.begin_flush(timeout)
        is_complete = self.processor.flush(timeout)
        return is_sent_elsewhere(deadline) and is_complete

    def stop(self, timeout: float) -> bool:
        """Unpatches, sends what is queued, also to `otlp_endpoint`, and leaves the provider.

        Returns:
            Whether both accepted everything within the timeout, in seconds.
        """
        deadline = time.monotonic() + bounded(timeout)
        is_complete = is_sent_elsewhere = False
        try:
            self._sources.close()
            # The last spans are in.
            self._elsewhere.begin_to_close()
            is_complete = self.processor.stop(deadline - time.monotonic())
        finally:
            is_sent_elsewhere = self._elsewhere.close(deadline - time.monotonic())
            self._surroundings.close()
        return is_complete and is_sent_elsewhere

    def _at_exit(self) -> None:
        # All of them at the same time.
        self._elsewhere.begin_to_end()
        self.processor.stop(self._shutdown_timeout)
        self._elsewhere.finish()

    def _connect(self, settings: Settings, provider: TracerProvider) -> Joining:
        tracer = provider.get_tracer("agentpulse", VERSION)
        recorder = Recorder(tracer, self.processor.enqueue, captures=settings.capture_messages)
        sessions = SessionProcessor(lambda: recorder.defaults, self.processor.take_ownership)
        joining = Joining(provider, sessions, (self.processor, *self._elsewhere.own))
        self._surroundings.callback(joining.leave)
        joining.join()
        if settings.heartbeat_interval:
            self.processor.repeat(recorder.sign_of_life, settings.heartbeat_interval)
        crashes = CrashHooks(recorder.crashed)
        crashes.install()
        self._sources.callback(crashes.restore)
        active.recorder = recorder
        self._sources.callback(_forget, recorder)
        if settings.flush_on_sigterm:
            timeout = settings.shutdown_timeout
            termination = TerminationFlush(lambda: self.flush(timeout), timeout)
            termination.install()
            self._sources.callback(termination.restore)
        self._sources.callback(end_with_celery_workers())
        self._sources.callback(carry_context())
        asked = _asked_capture(settings)
        # Says so where the variable makes no sense, also where no library is instrumented.
        ContentPolicy.resolve(asked)
        if settings.auto_patch:
            self._sources.callback(uninstrument)
            instrument(
                settings.instrument,
                tracer_provider=provider,
                capture_messages=asked,
                enabled=settings.enabled,
            )
        return joining


def _asked_capture(settings: Settings) -> bool | None:
    """What was asked for; None where OpenTelemetry's variable decides, also on log events."""
    asked = settings.sources["capture_messages"] not in (DEFAULT, STANDARD_CAPTURE_VARIABLE)
    return settings.capture_messages if asked else None


def _forget(recorder: Recorder) -> None:
    # Another one may have begun meanwhile.
    if active.recorder is recorder:
        active.recorder = None


def _processor(settings: Settings) -> AgentPulseSpanProcessor:
    exporter = AgentPulseSpanExporter(
        settings.api_key,
        settings.endpoint,
        settings.agent_name,
        capture_messages=settings.capture_messages,
        redact=settings.redact,
        prices=settings.prices,
        max_batch_size=settings.max_batch_size,
        allow_insecure=settings.allow_insecure,
        enabled=settings.enabled,
    )
    return AgentPulseSpanProcessor(
        exporter,
        flush_interval=settings.flush_interval,
        max_queue_size=settings.max_queue_size,
        max_batch_size=settings.max_batch_size,
        shutdown_timeout=settings.shutdown_timeout,
        export_all_spans=settings.export_all_spans,
    )
