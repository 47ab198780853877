"""`AgentPulseSpanProcessor`: has spans that concern agents sent in the background, as they end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span

from agentpulse_exporter._delivery.kinds import (
    BATCH_SIZE,
    FLUSH_INTERVAL,
    QUEUE_SIZE,
    SHUTDOWN_TIMEOUT,
)
from agentpulse_exporter._delivery.process import at_end_of_child, at_exit
from agentpulse_exporter._delivery.queue import BatchQueue, QueueProcessor
from agentpulse_exporter._delivery.stats import Stats
from agentpulse_exporter._dialects.normalize import concerns_agents
from agentpulse_exporter._ledger.ledger import as_started, is_sent_at_start
from agentpulse_exporter.exporter import AgentPulseSpanExporter
from agentpulse_exporter.settings import verify_one

_logger = logging.getLogger("agentpulse.exporter")


class AgentPulseSpanProcessor(QueueProcessor):
    """Batches spans that concern agents, in bounded memory, and has them sent in the background.

    Its thread starts with the first span. In a forked child it starts over, with an empty queue.

    Args:
        exporter: Where the spans go.
        flush_interval: Seconds between two sendings, from 0.01 up.
        max_queue_size: Spans that wait, at most; the oldest are dropped, and counted. 32 MiB of
            text is a second bound.
        max_batch_size: So many waiting spans are sent at once, from 1 to 500; events that fill no
            request wait on.
        shutdown_timeout: Seconds that `shutdown`, or the end of the process, may take.
        export_all_spans: Whether spans that have nothing to do with agents are sent too.

    Raises:
        ConfigurationError: One of these can't be used (a ValueError).
    """

    def __init__(
        self,
        exporter: AgentPulseSpanExporter,
        *,
        flush_interval: float = 5.0,
        max_queue_size: int = 10_000,
        max_batch_size: int = 100,
        shutdown_timeout: float = 5.0,
        export_all_spans: bool = False,
    ) -> None:
        self._exporter = exporter
        self._export_all_spans = export_all_spans
        self._shutdown_timeout = verify_one("shutdown_timeout", shutdown_timeout, SHUTDOWN_TIMEOUT)
        self._repeated: tuple[Callable[[], ReadableSpan | None], float] | None = None
        self._next_repeat = 0.0
        self._queue = BatchQueue(
            exporter,
            exporter.counters,
            flush_interval=verify_one("flush_interval", flush_interval, FLUSH_INTERVAL),
            max_queue_size=verify_one("max_queue_size", max_queue_size, QUEUE_SIZE),
            max_batch_size=verify_one("max_batch_size", max_batch_size, BATCH_SIZE),
            each_round=self._each_round,
        )
        at_exit(self._finish)
        at_end_of_child(self._finish)

    def on_start(
        self,
        span: Span,
        parent_context: Context | None = None,  # noqa: ARG002  # as the SDK calls it
    ) -> None:
        """Queues the start of a session, a cron run or an agent."""
        self._exporter.announce(span, is_sent=self._export_all_spans or concerns_agents(span))
        if is_sent_at_start(span) and self._is_taken(span):
            self.enqueue(as_started(span))
            self._queue.send_soon()

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled and concerns agents. No I/O, no waiting, no logging."""
        if self._is_queued(span) and self._is_taken(span):
            self.enqueue(span)

    def take_ownership(self, span: ReadableSpan) -> None:
        """Makes a span, when it starts or ends, this processor's if it will be queued here.

        For whoever sees the span before all other processors of its provider: no exporter with the
        same destination sends it then. Otherwise the first of ours that sees it has it.
        """
        owner = self._exporter.owner
        if owner.is_alone or self._queue.is_stopped:
            return
        if is_sent_at_start(span) if span.end_time is None else self._is_queued(span):
            owner.take(span)

    def repeat(self, make: Callable[[], ReadableSpan | None], every: float) -> None:
        """Has the worker queue the span that `make` returns, each time `every` seconds have passed.

        It runs on the worker's thread between two sendings, so no sooner than these.
        """
        self._repeated = (make, every)
        self._next_repeat = time.monotonic() + every

    def enqueue(self, span: ReadableSpan) -> None:
        """Queues any span, also one that was made outside a tracer."""
        if self._exporter.is_on:
            self._queue.add(span)

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends all that has ended until now; waits `timeout` seconds at most. Never raises.

        Returns:
            True only if all of it was accepted. A loss that no flush has reported so far makes it
            False, also where it came before.
        """
        return not self._exporter.is_on or super().flush(timeout)

    def stats(self) -> Stats:
        """The counts of spans that ended and concern agents."""
        return self._exporter.stats()

    def _is_taken(self, span: ReadableSpan) -> bool:
        """Whether this one sends it; one that has stopped doesn't, if there are others."""
        owner = self._exporter.owner
        return not (self._queue.is_stopped and not owner.is_alone) and owner.take(span)

    def _is_queued(self, span: ReadableSpan) -> bool:
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return False
        return self._export_all_spans or self._exporter.takes(span)

    def _each_round(self) -> None:
        self._exporter.log_absence()
        if self._repeated is None or time.monotonic() < self._next_repeat or self._queue.is_stopped:
            return
        make, every = self._repeated
        self._next_repeat = time.monotonic() + every
        try:
            made = make()
            if made is not None:
                self.enqueue(made)
        except Exception as error:  # noqa: BLE001  # it must not end the worker
            _logger.debug("A repeated event could not be made: %s", type(error).__name__)
