"""What runs while AgentPulse is on: exporter and processor on a tracer provider, and patches."""

from __future__ import annotations

from contextlib import ExitStack

from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from agentpulse_instrumentation import instrument, uninstrument
from agentpulse_instrumentation.shield import shield
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from agentpulse.announcement import sdk_init
from agentpulse.attachment import attach, detach
from agentpulse.crashes import CrashHooks
from agentpulse.following import follow
from agentpulse.joined import Joined, describe
from agentpulse.logs import log_to_stderr, logger, warn_once
from agentpulse.otlp import otlp_processor
from agentpulse.processor import SessionProcessor
from agentpulse.provider import find_provider
from agentpulse.settings import Settings
from agentpulse.termination import TerminationFlush
from agentpulse.threads import carry_context
from agentpulse.tracing import active
from agentpulse.tracing.recorder import Recorder
from agentpulse.version import VERSION

_DESCRIBE = shield("describe a tracer provider")
_JOIN = shield("join a tracer provider that was set up anew")


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
        self._settings = settings
        self._added: list[SpanProcessor] = []
        self._is_stopped = False
        try:
            self._provider = tracer_provider or find_provider(settings.agent_name)
            self._connect(settings, self._provider)
        except BaseException:
            self.stop(timeout=0)
            raise
        joined = self.joined()
        _log(joined)
        self.processor.enqueue(sdk_init(joined))

    def joined(self) -> Joined | None:
        """The provider and its processors as they are now; None where they can't be read."""
        with _DESCRIBE:
            return describe(self._provider, self._added)
        return None

    def stop(self, timeout: float) -> bool:
        """Unpatches, sends what is queued, leaves the provider.

        Returns:
            Whether everything was accepted within the timeout, in seconds.
        """
        self._is_stopped = True
        try:
            self._sources.close()
            return self.processor.stop(timeout)
        finally:
            self._surroundings.close()

    def _connect(self, settings: Settings, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("agentpulse", VERSION)
        recorder = Recorder(tracer, self.processor.enqueue, captures=settings.capture_messages)
        self._sessions = SessionProcessor(lambda: recorder.defaults, self.processor.claim)
        self._surroundings.callback(self._leave)
        self._join()
        self.processor.outlasts = lambda: follow(provider, self._rejoin)
        if settings.heartbeat_interval:
            self.processor.repeat(recorder.sign_of_life, settings.heartbeat_interval)
        crashes = CrashHooks(recorder.crashed)
        crashes.install()
        self._sources.callback(crashes.restore)
        active.recorder = recorder
        self._sources.callback(_forget, recorder)
        if settings.flush_on_sigterm:
            timeout = settings.shutdown_timeout
            termination = TerminationFlush(lambda: self.processor.flush(timeout), timeout)
            termination.install()
            self._sources.callback(termination.restore)
        self._sources.callback(carry_context())
        if settings.auto_patch:
            self._sources.callback(uninstrument)
            instrument(
                settings.instrument,
                tracer_provider=provider,
                capture_messages=settings.capture_messages,
            )

    def _join(self) -> None:
        """Puts our processors on the provider."""
        other = otlp_processor(self._settings)
        self._added = [self._sessions, self.processor, *(() if other is None else (other,))]
        # Sessions before all: other processors tell of spans as they are when they start, too.
        attach(self._provider, self._sessions, first=True)
        # The queue behind all: those of others need not wait until ours is flushed.
        for each in self._added[1:]:
            attach(self._provider, each)

    def _leave(self) -> None:
        for each in self._added:
            detach(self._provider, each)
        for other in self._added[2:]:
            other.shutdown()

    def _rejoin(self) -> None:
        with _JOIN:
            self._join()
            if self._is_stopped:
                self._leave()
            logger.debug("The tracer provider was set up anew, and AgentPulse joined it again")


def _log(joined: Joined | None) -> None:
    if joined is None:
        return
    processors = "; ".join(joined.processors)
    logger.debug("Tracer provider: %s. Its span processors: %s", joined.provider, processors)
    if joined.sampling is not None:
        warn_once(
            f"The tracer provider has a sampler: {joined.sampling}, and AgentPulse is told of no "
            "more calls, nor of their cost, than these."
        )


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
    )
    return AgentPulseSpanProcessor(
        exporter,
        flush_interval=settings.flush_interval,
        max_queue_size=settings.max_queue_size,
        max_batch_size=settings.max_batch_size,
        shutdown_timeout=settings.shutdown_timeout,
        export_all_spans=settings.export_all_spans,
    )
