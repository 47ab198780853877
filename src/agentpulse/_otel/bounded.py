"""`BoundedBatchProcessor`: our batch queue before an exporter of somebody else's.

OpenTelemetry's batch processor waits for 30 seconds at the end of the process, flushes without a
timeout, reports success where its exporter failed, logs on the caller's thread when its queue is
full, starts a thread in every forked child, and has no bound in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from agentpulse_exporter._delivery.process import at_end_of_child, at_exit
from agentpulse_exporter._delivery.queue import QueueProcessor, Sender
from agentpulse_exporter._delivery.stats import Counters
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse._output import logger

_QUEUE_SIZE, _BATCH_SIZE, _DELAY_MILLIS = 2048, 512, 5000
"""OpenTelemetry's defaults."""


class BoundedBatchProcessor(QueueProcessor):
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
        takes: Callable[[ReadableSpan], bool] | None = None,
        counters: Counters | None = None,
        max_queue_size: int | None = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self.destination: str = destination
        self._takes = takes
        counters = counters or Counters(destination)
        size = max_queue_size or _standard(OTEL_BSP_MAX_QUEUE_SIZE, _QUEUE_SIZE)
        self._exporting = _ExporterSender(make_exporter, counters)
        super().__init__(
            self._exporting,
            counters,
            flush_interval=_standard(OTEL_BSP_SCHEDULE_DELAY, _DELAY_MILLIS) / 1000,
            max_queue_size=size,
            max_batch_size=min(_standard(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, _BATCH_SIZE), size),
            shutdown_timeout=shutdown_timeout,
            at_end=self._shut_exporter_down,
            starts_now=True,
        )
        at_exit(self.begin_shutdown)
        at_end_of_child(self.finish, begin=self.begin_shutdown)

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled. No waiting, no logging."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        if self._takes is None or self._takes(span):
            self.enqueue(span)

    @property
    def span_exporter(self) -> SpanExporter:
        """The exporter of this process."""
        return self._exporting.exporter

    def begin_shutdown(self) -> None:
        """Begins to send the last spans, in the background; `stop` waits for that. Once."""
        self.begin_stop(self._shutdown_timeout)

    def _shut_exporter_down(self) -> None:
        try:
            self._exporting.exporter.shutdown()
        except Exception as error:  # noqa: BLE001  # somebody else's exporter may raise anything
            logger.debug("An exporter could not be shut down: %s", type(error).__name__)


class _ExporterSender(Sender):
    """Has an exporter send the batches of the queue, and counts the spans by outcome."""

    def __init__(self, make_exporter: Callable[[], SpanExporter], counters: Counters) -> None:
        self._make_exporter = make_exporter
        self.exporter = make_exporter()
        self._process = os.getpid()
        self._counters = counters

    def belong_to_this_thread(self) -> None:
        """In a forked child, makes an exporter of its own."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self.exporter = self._make_exporter()

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
                result = self.exporter.export(spans)
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
