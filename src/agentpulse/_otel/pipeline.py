"""AgentPulse while it is on: exporter and processor on a tracer provider, and patches.

They are made in this order: exporter and processor, other exporters, the provider, the recorder;
then they join the provider (`SessionProcessor` first, the queues last), and the hooks of the
process and the patches of libraries come on. The event of the start is queued last.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor, Stats
from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._delivery.process import at_exit, bounded
from agentpulse_exporter._values import MAX_LABEL, clean
from agentpulse_exporter.settings import DEFAULT, ROWS
from agentpulse_instrumentation import INSTRUMENTORS, instrument, not_recorded, uninstrument
from agentpulse_instrumentation._engine.content import ContentPolicy
from agentpulse_instrumentation._engine.patching import shield
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from agentpulse import __version__, _process, _tracing
from agentpulse._otel.exporters import BoundedBatchProcessor, by_otlp, lasting
from agentpulse._otel.provider import Joined, describe, find_provider, join
from agentpulse._output import log_to_stderr
from agentpulse._tracing.recorder import Recorder, instant
from agentpulse._tracing.spans import SessionProcessor
from agentpulse.settings import STANDARD_CAPTURE_VARIABLE, Settings

_DESCRIBE = shield("describe a tracer provider")


class Pipeline:
    """Runs from when it is made until `stop`, which takes everything back."""

    def __init__(self, settings: Settings, tracer_provider: TracerProvider | None) -> None:
        """Starts on this provider, or (None) on the global one."""
        self._sources = ExitStack()
        """Takes back the patches and hooks that begin spans."""
        self._surroundings = ExitStack()
        """Takes back the rest, which the processor needs while it sends the last spans."""
        # The settings of the exporter's table are its arguments.
        given: dict[str, Any] = {name: getattr(settings, name) for name in ROWS}
        self.processor: AgentPulseSpanProcessor = AgentPulseSpanProcessor(
            AgentPulseSpanExporter(**given),
            flush_interval=settings.flush_interval,
            max_queue_size=settings.max_queue_size,
            max_batch_size=settings.max_batch_size,
            shutdown_timeout=settings.shutdown_timeout,
        )
        if settings.debug:
            self._surroundings.callback(log_to_stderr())
        self._own: list[BoundedBatchProcessor] = (
            by_otlp(settings.otlp_endpoint, settings) if settings.otlp_endpoint else []
        )
        """That of `otlp_endpoint`, which ends with this one; the others go on."""
        self._others = [*self._own, *(each for each in lasting if not each.is_stopped)]
        self._settings = settings
        try:
            provider = tracer_provider or find_provider(settings.agent_name)
            # The function registered last is called first. So this comes before the provider's own
            # end, which would wait for one processor after the other, and after the functions that
            # end the last spans, such as those of streams that are still open.
            at_exit(self._at_exit)
            self._provider = provider
            self._connect(settings, provider)
        except BaseException:
            self.stop(timeout=0)
            raise
        joined = self.joined()
        if joined is not None:
            joined.log()
        self.processor.enqueue(sdk_init(joined, settings.heartbeat_interval))

    def joined(self) -> Joined | None:
        """The provider and its processors as they are now; None where they can't be read."""
        with _DESCRIBE:
            return describe(self._provider, self._ours)
        return None

    def stats(self) -> Stats:
        """The counts of all spans that ended, by destination, and the unrecorded libraries."""
        libraries = self._settings.instrument if self._settings.auto_patch else ()
        return replace(
            self.processor.stats(),
            elsewhere={each.destination: each.stats() for each in self._others},
            not_recorded=not_recorded(libraries),
        )

    def flush(self, timeout: float) -> bool:
        """Sends the spans that have ended, to AgentPulse and other destinations at the same time.

        Returns:
            Whether all of it was accepted within the timeout, in seconds.
        """
        deadline = time.monotonic() + bounded(timeout)
        waits = [each.begin_flush(timeout) for each in (self.processor, *self._others)]
        sent = [wait(deadline - time.monotonic()) for wait in waits]
        return all(sent)

    def stop(self, timeout: float) -> bool:
        """Unpatches, sends the queued spans, also to `otlp_endpoint`, and leaves the provider.

        Returns:
            Whether both accepted everything within the timeout, in seconds.
        """
        deadline = time.monotonic() + bounded(timeout)
        with self._surroundings:
            try:
                self._sources.close()
            finally:
                # The last spans are in, whatever a hook of others did.
                is_sent = self._end(self._own, lambda: deadline - time.monotonic())
        return is_sent

    def _at_exit(self) -> None:
        # The provider waits for those that go on.
        self._end(self._others, lambda: self._settings.shutdown_timeout)

    def _end(self, others: list[BoundedBatchProcessor], left: Callable[[], float]) -> bool:
        """Ends ours, and begins to end these others at the same time; whether ours sent all."""
        for each in others:
            each.begin_shutdown()
        sent = [each.stop(left()) for each in (self.processor, *self._own)]
        return all(sent)

    def _connect(self, settings: Settings, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("agentpulse", __version__)
        recorder = Recorder(tracer, self.processor.enqueue, captures=settings.capture_messages)
        sessions = SessionProcessor(recorder.outside, self.processor.take_ownership)
        self._ours = (sessions, self.processor, *self._own)
        join(provider, sessions, (self.processor, *self._own), self._surroundings)
        if settings.heartbeat_interval:
            self.processor.repeat(recorder.sign_of_life, settings.heartbeat_interval)
        _process.report_crashes(recorder.crashed, self._sources)
        _tracing.active = recorder
        self._sources.callback(setattr, _tracing, "active", None)
        if settings.flush_on_sigterm:
            timeout = settings.shutdown_timeout
            _process.flush_on_sigterm(lambda: self.flush(timeout), timeout, self._sources)
        _process.end_with_celery_workers(self._sources)
        _process.carry_context(self._sources)
        # Where neither the argument nor our variable is given, OpenTelemetry's variable decides,
        # also on log events.
        is_given = settings.sources["capture_messages"] not in (DEFAULT, STANDARD_CAPTURE_VARIABLE)
        capture = settings.capture_messages if is_given else None
        # Warns of a wrong value of that variable, also where no library is instrumented.
        ContentPolicy.resolve(capture)
        if settings.auto_patch:
            self._sources.callback(uninstrument)
            instrument(
                settings.instrument,
                tracer_provider=provider,
                capture_messages=capture,
                enabled=settings.enabled,
            )


def sdk_init(joined: Joined | None, heartbeat_interval: float) -> ReadableSpan:
    """The event that `init` sends: the program, its versions, and the provider that it joined."""
    libraries = [library for kind in INSTRUMENTORS.values() for library in kind.libraries()]
    versions = ((library.package, library.installed()) for library in libraries)
    data: dict[str, object] = {
        "python": platform.python_version(),
        "os": platform.system(),
        "architecture": platform.machine(),
        "sdk_version": __version__,
        "libraries": tuple(f"{name} {found}" for name, found in versions if found is not None),
        "program": _program(),
        # So that a receiver knows from when on silence means that this process was killed.
        "heartbeat_interval": heartbeat_interval,
    }
    if joined is not None:
        data |= {"tracer_provider": joined.provider, "span_processors": joined.processors}
        data |= {} if joined.sampling is None else {"sampling": joined.sampling}
    attributes = {semconv.DATA_PREFIX + field: value for field, value in data.items()}
    return instant("sdk_init", "sdk_init", attributes)


def _program() -> str:
    """The base name of the program that Python was started with; `-c` and the empty name too."""
    # Where Python is embedded, there may be no arguments, and programs change them as they like.
    arguments: list[object] = getattr(sys, "argv", None) or [""]
    first = arguments[0]
    return clean(Path(first).name, MAX_LABEL) if isinstance(first, str) else ""
