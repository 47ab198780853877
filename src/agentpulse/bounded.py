"""`BoundedBatchProcessor`: OpenTelemetry's batch processor, none of whose waits is without an end.

By itself it waits for 30 seconds at the end of the process, flushes without a timeout, says that
all is well where its exporter failed, and logs on the caller's thread when its queue is full.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable

from agentpulse_exporter import Stats
from agentpulse_exporter.counters import number_of_spans
from agentpulse_exporter.interrupt import Interrupt
from agentpulse_exporter.lifetime import after_fork, at_end_of_child, at_exit
from agentpulse_exporter.processor import PATIENCE
from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from agentpulse.logs import logger
from agentpulse.outcomes import Outcomes, counted

_QUEUE_SIZE, _BATCH_SIZE = 2048, 512
"""OpenTelemetry's defaults."""
_GLANCE = 0.05
"""Seconds between two looks at whether anything was accepted meanwhile."""


class BoundedBatchProcessor(SpanProcessor):
    """Batches spans for an exporter. What has to wait for it waits as long as it says, at most.

    Args:
        exporter: Where the spans go.
        destination: What the log calls it.
        takes: Which spans go there; by default all that are sampled. Others count for nothing.
        outcomes: The counts, where the exporter leaves spans out and counts these by itself.
        max_queue_size: Spans that wait, at most; those that come then are lost. By default what
            OTEL_BSP_MAX_QUEUE_SIZE says, as the other `OTEL_BSP_` variables count too.
        shutdown_timeout: Seconds that `shutdown` may take; where nothing is accepted meanwhile it
            gives up after 2.2 seconds. What is lost by then is logged, in one line.
    """

    outlasts: Callable[[], bool] = staticmethod(lambda: False)
    """Is asked when the provider is shut down; whoever sets it calls `stop` in the end."""

    def __init__(
        self,
        exporter: SpanExporter,
        destination: str,
        *,
        takes: Callable[[ReadableSpan], bool] | None = None,
        outcomes: Outcomes | None = None,
        max_queue_size: int | None = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self.destination = destination
        size = max_queue_size or _standard(OTEL_BSP_MAX_QUEUE_SIZE, _QUEUE_SIZE)
        self._max_queue_size = size
        self._shutdown_timeout = shutdown_timeout
        self._takes = takes
        self._outcomes = outcomes or Outcomes()
        self._inner = BatchSpanProcessor(
            counted(exporter, self._outcomes, destination, self._say_refusals),
            max_queue_size=size,
            max_export_batch_size=min(_standard(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, _BATCH_SIZE), size),
        )
        self._begun: list[tuple[float, int, int]] = []
        """When the end began, and how many had been accepted and lost by then."""
        self._start_over()
        # At the end of the interpreter no thread can be started any more.
        self._start_runner()
        after_fork(self._start_over)
        at_exit(self.begin_shutdown)
        at_end_of_child(self.finish, begin=self.begin_shutdown)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Passes it on."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled, where there is room. No waiting, no logging."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        if self._takes is not None and not self._takes(span):
            return
        outcomes = self._outcomes
        outcomes.entered.add()
        if self._begun:
            outcomes.late.add()
            return
        if outcomes.waiting > self._max_queue_size:
            outcomes.refused.add()
            return
        self._is_used = True
        if self._runner is None or not self._runner.is_alive():
            self._start_runner()
        self._inner.on_end(span)

    def stats(self) -> Stats:
        """What became of the spans; those that wait when it gives up are lost by `shutdown`."""
        return self._outcomes.stats(is_over=self._ended.is_set())

    @property
    def has_begun_to_end(self) -> bool:
        """Whether it takes no spans any more."""
        return bool(self._begun)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Sends what has ended until now, and says whether all of it was accepted in that time."""
        return self.begin_flush()(timeout_millis / 1000)

    def begin_flush(self) -> Callable[[float], bool]:
        """Has what has ended until now sent in the background.

        Returns:
            Waits for that, so many seconds at most, and says whether all of it was accepted.
        """
        if self._begun:
            return lambda _seconds: False
        lost, done = self._outcomes.lost, Interrupt()
        self._run(lambda: (self._inner.force_flush(), done.set()))
        return lambda seconds: done.wait(seconds) and self._outcomes.lost == lost

    def begin_shutdown(self) -> None:
        """Has what is left sent in the background; `stop` waits for it. Once."""
        if not self._begun:
            lost = sum(self.stats().dropped.values())
            self._begun.append((time.monotonic(), self._outcomes.accepted, lost))
            self._run(lambda: (self._inner.shutdown(), self._ended.set()))
            self._calls.put(None)

    def shutdown(self) -> None:
        """Stops within `shutdown_timeout`, unless `outlasts` says that it goes on elsewhere."""
        if not self.outlasts():
            self.finish()

    def finish(self) -> None:
        """Stops within `shutdown_timeout`, from where the end has begun."""
        self.begin_shutdown()
        self.stop(self._begun[0][0] + self._shutdown_timeout - time.monotonic())

    def stop(self, timeout: float) -> bool:
        """Sends what is left, `timeout` seconds at most; what isn't accepted then is lost. Once.

        Returns:
            True only if all that was left was accepted.
        """
        deadline = time.monotonic() + timeout
        self.begin_shutdown()
        begun, accepted, lost = self._begun[0]
        give_up_at = begun + PATIENCE
        while not self._ended.is_set():
            if self._outcomes.accepted != accepted:
                accepted, give_up_at = self._outcomes.accepted, time.monotonic() + PATIENCE
            left = min(deadline, give_up_at) - time.monotonic()
            if left <= 0:
                break
            self._ended.wait(min(left, _GLANCE))
        self._ended.set()
        lost_in_all = sum(self.stats().dropped.values())
        self._say_losses(lost_in_all)
        return lost_in_all == lost

    def _say_losses(self, lost: int) -> None:
        try:
            self._may_say.pop()
        except IndexError:
            return
        if lost:
            logger.warning("%s did not reach %s.", number_of_spans(lost), self.destination)

    def _say_refusals(self) -> None:
        # Called by the thread that sends, at most once a minute.
        refused = self._outcomes.refused.value()
        new, self._said = refused - self._said, refused
        if new:
            logger.warning(
                "%s did not reach %s: the queue was full.", number_of_spans(new), self.destination
            )

    def _run(self, call: Callable[[], object]) -> None:
        """Has it called in a thread of its own, where one runs or can be started."""
        if self._runner is None or not self._runner.is_alive():
            self._start_runner()
        if self._runner is not None or self._is_used:
            self._calls.put(call)
        else:
            # There is nothing to wait for.
            call()

    def _start_runner(self) -> None:
        with self._starting:
            if self._runner is not None and self._runner.is_alive():
                return
            self._runner = threading.Thread(
                target=_work, args=(self._calls,), name="agentpulse-batch", daemon=True
            )
            try:
                self._runner.start()
            except RuntimeError:
                self._runner = None

    def _start_over(self) -> None:
        # In a forked child, the runner starts with the first span.
        self._starting = threading.RLock()
        self._runner: threading.Thread | None = None
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._said = 0
        self._is_used = False
        self._ended = Interrupt()
        self._may_say: list[bool] = [] if self._begun else [True]
        if self._begun:
            self._begun = [(self._begun[0][0], 0, 0)]
            self._ended.set()
        self._outcomes.start_over()


def _standard(variable: str, default: int) -> int:
    try:
        size = int(os.environ.get(variable, ""))
    except ValueError:
        return default
    return size if size > 0 else default


def _work(calls: queue.SimpleQueue[Callable[[], object] | None]) -> None:
    while True:
        call = calls.get()
        if call is None:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001  # somebody else's exporter may raise anything
            logger.debug("A batch processor failed: %s", type(error).__name__)
