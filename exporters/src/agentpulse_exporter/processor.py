"""`AgentPulseSpanProcessor`: has spans that concern agents sent in the background, as they end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from agentpulse_exporter._delivery.process import at_end_of_child, at_exit
from agentpulse_exporter._delivery.queue import BatchQueue
from agentpulse_exporter._delivery.stats import Stats
from agentpulse_exporter._delivery.waits import bounded
from agentpulse_exporter._dialects.normalize import concerns_agents
from agentpulse_exporter._ledger.tree import as_started, is_told_at_start
from agentpulse_exporter.exporter import AgentPulseSpanExporter
from agentpulse_exporter.settings import ConfigurationError

_logger = logging.getLogger("agentpulse.exporter")


class AgentPulseSpanProcessor(SpanProcessor):
    """Batches spans that concern agents, in bounded memory, and has them sent in the background.

    Its thread starts with the first span. In a forked child it starts over, with an empty queue.

    Args:
        exporter: Where the spans go.
        flush_interval: Seconds between two sendings, above 0.
        max_queue_size: Spans that wait, at most, from 1 up; the oldest are dropped, and counted.
            32 MiB of text is a second bound.
        max_batch_size: So many waiting spans are sent at once, from 1 up; what fills no request
            waits on.
        shutdown_timeout: Seconds that `shutdown`, or the end of the process, may take.
        export_all_spans: Whether spans that have nothing to do with agents are sent too.

    Raises:
        ConfigurationError: One of these can't be used (a ValueError).
    """

    outlasts: Callable[[], bool] = staticmethod(lambda: False)
    """Is asked when the provider is shut down; whoever sets it calls `stop` in the end."""

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
        self._shutdown_timeout = _seconds("shutdown_timeout", shutdown_timeout, from_zero=True)
        self._repeated: tuple[Callable[[], ReadableSpan | None], float] | None = None
        self._next_repeat = 0.0
        self._queue = BatchQueue(
            exporter,
            exporter.counters,
            flush_interval=_seconds("flush_interval", flush_interval),
            max_queue_size=_number("max_queue_size", max_queue_size),
            max_batch_size=_number("max_batch_size", max_batch_size),
            each_round=self._each_round,
        )
        at_exit(self._at_exit)
        at_end_of_child(self._at_exit)

    def on_start(
        self,
        span: Span,
        parent_context: Context | None = None,  # noqa: ARG002  # as the SDK calls it
    ) -> None:
        """Queues what tells that a session, a cron run or an agent is under way."""
        self._exporter.announce(span, travels=self._export_all_spans or concerns_agents(span))
        if is_told_at_start(span) and self._is_taken(span):
            self.enqueue(as_started(span))
            self._queue.send_soon()

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled and concerns agents. No I/O, no waiting, no logging."""
        if self._is_queued(span) and self._is_taken(span):
            self.enqueue(span)

    def claim(self, span: ReadableSpan) -> None:
        """Is told of a span before any other processor of its provider is, when it starts or ends.

        What this processor will queue, no exporter with the same destination tells of then. Nobody
        has to call it: else the one that comes first among ours has the span.
        """
        claimant = self._exporter.claimant
        if claimant.is_alone or self._queue.is_stopped:
            return
        if is_told_at_start(span) if span.end_time is None else self._is_queued(span):
            claimant.claim(span)

    def repeat(self, make: Callable[[], ReadableSpan | None], every: float) -> None:
        """Has the worker queue what `make` returns, each time `every` seconds have gone by.

        It runs on the worker's thread between two sendings, so no sooner than these.
        """
        self._repeated = (make, every)
        self._next_repeat = time.monotonic() + every

    def enqueue(self, span: ReadableSpan) -> None:
        """Queues a span whatever it is, also one that was made outside a tracer."""
        if self._exporter.is_on:
            self._queue.add(span)

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends what has ended until now; waits `timeout` seconds at most. Never raises.

        Returns:
            True only if all of it was accepted. A loss that no flush has reported so far makes it
            False, also where it came before.
        """
        return not self._exporter.is_on or self._queue.flush(timeout)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """As `flush`, in milliseconds."""
        return self.flush(bounded(timeout_millis) / 1000)

    def shutdown(self) -> None:
        """Stops within `shutdown_timeout`, unless `outlasts` says that it goes on elsewhere."""
        if not self.outlasts():
            self.stop(self._shutdown_timeout)

    def stop(self, timeout: float = 5.0) -> bool:
        """Sends what is left, `timeout` seconds at most; what isn't accepted then is lost.

        Returns:
            True only if all that ever ended was accepted; the same whenever it is called again.
        """
        return self._queue.stop(timeout)

    def stats(self) -> Stats:
        """What became of every span that ended and concerns agents."""
        return self._exporter.stats()

    def _is_taken(self, span: ReadableSpan) -> bool:
        """Whether this one tells of it; one that has stopped leaves it to others, if there are."""
        claimant = self._exporter.claimant
        if self._queue.is_stopped and not claimant.is_alone:
            return False
        return claimant.claim(span)

    def _is_queued(self, span: ReadableSpan) -> bool:
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return False
        return self._export_all_spans or self._exporter.takes(span)

    def _at_exit(self) -> None:
        self._queue.stop(self._shutdown_timeout)

    def _each_round(self) -> None:
        self._exporter.log_absence()
        self._queue_repeated()

    def _queue_repeated(self) -> None:
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


def _seconds(name: str, given: object, *, from_zero: bool = False) -> float:
    # A bool is an int, too.
    if isinstance(given, (int, float)) and type(given) is not bool and math.isfinite(given):
        seconds = float(given)
        if seconds > 0 or (from_zero and seconds == 0):
            return seconds
    least = "from 0 up" if from_zero else "above 0"
    message = f"The argument {name} is {given!r}; expected seconds as a number {least}."
    raise ConfigurationError(message)


def _number(name: str, given: object) -> int:
    if type(given) is int and given > 0:
        return given
    message = f"The argument {name} is {given!r}; expected a whole number from 1 up."
    raise ConfigurationError(message)
