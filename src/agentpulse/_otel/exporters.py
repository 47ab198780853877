"""Exporters of others behind our batch queue: that of `otlp_endpoint`, and OTEL_TRACES_EXPORTER's.

OpenTelemetry's batch processor waits for 30 seconds at the end of the process, flushes without a
timeout, reports success where its exporter failed, logs on the caller's thread when its queue is
full, starts a thread in every forked child, and has no bound in bytes.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence

from agentpulse_exporter import CostEnrichingExporter
from agentpulse_exporter._delivery.process import at_end_of_child, at_exit
from agentpulse_exporter._delivery.queue import QueueProcessor, Sender
from agentpulse_exporter._delivery.stats import Counters
from agentpulse_exporter._dialects.normalize import is_genai_span
from agentpulse_exporter._ledger.ledger import origins
from agentpulse_exporter._wire.copies import PrivateExporter
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse._output import logger, warn_once
from agentpulse.settings import Settings

_PATH = "/v1/traces"
_PATIENCE = 2.0
"""Seconds that a request of OTLP may take."""
_QUEUE_SIZE, _BATCH_SIZE, _DELAY_MILLIS = 2048, 512, 5000
"""OpenTelemetry's defaults."""
lasting: weakref.WeakSet[BoundedBatchProcessor] = weakref.WeakSet()
"""The processors of OTEL_TRACES_EXPORTER, which were there before the pipeline, and outlast it."""


class BoundedBatchProcessor(QueueProcessor, Sender):
    """Batches spans for an exporter, within bounds of memory and of time.

    Args:
        make_exporter: Makes the exporter; again in a forked child, where the connections of the
            first one are the parent's.
        destination: The exporter's name in the log.
        takes: Whether a sampled span is sent; by default all are. Others are not counted.
        counters: The counts, where the exporter leaves spans out and counts these by itself.
        max_queue_size: Spans that wait, at most; the oldest are dropped, and counted. By default
            that of OTEL_BSP_MAX_QUEUE_SIZE; the other `OTEL_BSP_` variables count too.
        shutdown_timeout: Seconds that `shutdown` may take; where nothing is accepted meanwhile it
            gives up after 2.2 seconds. The loss is logged, in one line.
    """

    def __init__(
        self,
        make_exporter: Callable[[], SpanExporter],
        destination: str,
        *,
        takes: Callable[[ReadableSpan], bool] = lambda _span: True,
        counters: Counters | None = None,
        max_queue_size: int | None = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self.destination: str = destination
        self._takes = takes
        self._make_exporter = make_exporter
        self.span_exporter: SpanExporter = make_exporter()
        self._process = os.getpid()
        size = max_queue_size or _standard("OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE_SIZE)
        super().__init__(
            self,
            counters or Counters(destination),
            flush_interval=_standard("OTEL_BSP_SCHEDULE_DELAY", _DELAY_MILLIS) / 1000,
            max_queue_size=size,
            max_batch_size=min(_standard("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH_SIZE), size),
            shutdown_timeout=shutdown_timeout,
        )
        # An exporter that may block: only a worker may wait for it, and at the end of the
        # interpreter no worker can be started.
        self._start_worker()
        at_exit(self.begin_shutdown)
        at_end_of_child(self.finish, begin=self.begin_shutdown)

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled. No waiting, no logging."""
        context = span.context
        if context is not None and context.trace_flags.sampled and self._takes(span):
            self.enqueue(span)

    def begin_shutdown(self) -> None:
        """Begins to send the last spans, in the background; `stop` waits for that. Once."""
        self.begin_stop(self._shutdown_timeout)

    def end(self) -> None:
        """Shuts the exporter down."""
        try:
            self.span_exporter.shutdown()
        except Exception as error:  # noqa: BLE001  # somebody else's exporter may raise anything
            logger.debug("An exporter could not be shut down: %s", type(error).__name__)

    def belong_to_this_thread(self) -> None:
        """In a forked child, makes an exporter of its own."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self.span_exporter = self._make_exporter()

    def send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool = False) -> None:
        """Exports them. The exporter has counted the spans that it dropped."""
        del leaves_rest  # every batch is sent as it is
        if not spans:
            return
        counters = self._counters
        lost = counters.lost(in_queue=False)
        result, error_type = SpanExportResult.FAILURE, ""
        try:
            with suppress_instrumentation():
                result = self.span_exporter.export(spans)
        except BaseException as error:  # noqa: BLE001  # a worker that ends sends nothing more
            error_type = type(error).__name__
        passed_on = len(spans) - (counters.lost(in_queue=False) - lost)
        if result is SpanExportResult.SUCCESS:
            counters.accepted(passed_on)
        else:
            counters.dropped("not_accepted", passed_on)
        counters.log_losses(because=error_type)

    def close(self) -> None:
        """Counts the queued spans as lost, and logs it."""
        self._counters.abandon()
        self._counters.log_losses(at_end=True)


def _standard(variable: str, default: int) -> int:
    try:
        size = int(os.environ.get(variable, ""))
    except ValueError:
        return default
    return size if size > 0 else default


def by_otlp(endpoint: str, settings: Settings) -> list[BoundedBatchProcessor]:
    """The processor of `otlp_endpoint`, which ends with the pipeline; none where that can't be.

    Headers, certificates and time-outs are those of OpenTelemetry's own variables
    (`OTEL_EXPORTER_OTLP_HEADERS` and its kin).
    """
    try:
        return [_otlp_processor(endpoint, settings)]
    except ImportError:
        reason = 'its exporter is not installed: pip install "agentpulse-sdk[otlp]".'
    except Exception as error:  # noqa: BLE001  # it reads OpenTelemetry's variables, too
        reason = f"{type(error).__name__}: {error}"
    warn_once(f"Nothing is sent by OTLP: {reason}")
    return []


def _otlp_processor(endpoint: str, settings: Settings) -> BoundedBatchProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    address = endpoint if endpoint.endswith(_PATH) else endpoint + _PATH
    destination = settings.shown("otlp_endpoint").strip("'")
    counters = Counters(destination)

    def make_exporter() -> SpanExporter:
        private = PrivateExporter(
            OTLPSpanExporter(endpoint=address, timeout=_timeout()),
            capture_messages=settings.capture_messages,
            redact=settings.redact,
            on_drop=counters.dropped,
        )
        return CostEnrichingExporter(private, prices=settings.prices, enabled=settings.enabled)

    return BoundedBatchProcessor(
        make_exporter,
        destination,
        takes=lambda span: (
            (settings.export_all_spans or is_genai_span(span)) and not origins.is_inherited(span)
        ),
        counters=counters,
        max_queue_size=settings.max_queue_size,
        shutdown_timeout=settings.shutdown_timeout,
    )


def _timeout() -> float | None:
    """The seconds of one request, unless OpenTelemetry's variables have them."""
    named = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(name) for name in named) else _PATIENCE
