"""`BoundedBatchProcessor`: OpenTelemetry's batch processor, none of whose waits is without an end.

By itself it waits for 30 seconds at the end of the process, flushes without a timeout, says that
all is well where its exporter failed, and logs on the caller's thread when its queue is full.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from agentpulse_exporter import Stats
from agentpulse_exporter.counters import Tally
from agentpulse_exporter.interrupt import Interrupt
from agentpulse_exporter.lifetime import after_fork, at_end_of_child, at_exit
from agentpulse_exporter.processor import PATIENCE
from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
)
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from agentpulse.logs import logger

_QUEUE_SIZE, _BATCH_SIZE = 2048, 512
"""OpenTelemetry's defaults."""
_SECONDS_BETWEEN_LINES = 60.0
_GLANCE = 0.05
"""Seconds between two looks at whether anything was accepted meanwhile."""


class BoundedBatchProcessor(SpanProcessor):
    """Batches spans for an exporter. What has to wait for it waits as long as it says, at most.

    Args:
        exporter: Where the spans go.
        destination: What the log calls it.
        max_queue_size: Spans that wait, at most; those that come then are lost. By default what
            OTEL_BSP_MAX_QUEUE_SIZE says, as the other `OTEL_BSP_` variables count too.
        shutdown_timeout: Seconds that `shutdown` may take; where nothing is accepted meanwhile it
            gives up after 2.2 seconds. What is lost by then is logged, in one line.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        destination: str,
        *,
        max_queue_size: int | None = None,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self.destination = destination
        size = max_queue_size or _standard(OTEL_BSP_MAX_QUEUE_SIZE, _QUEUE_SIZE)
        self._max_queue_size = size
        self._shutdown_timeout = shutdown_timeout
        self._watched = _Watched(exporter, destination, self._say_refusals)
        self._inner = BatchSpanProcessor(
            self._watched,
            max_queue_size=size,
            max_export_batch_size=min(_standard(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, _BATCH_SIZE), size),
        )
        self._begun: list[tuple[float, int]] = []
        """When the end began, and how many had been accepted by then."""
        self._start_over()
        # At the end of the interpreter no thread can be started any more.
        self._start_runner()
        after_fork(self._start_over)
        at_exit(self.begin_shutdown)
        at_end_of_child(self.shutdown, begin=self.begin_shutdown)
        processors.add(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Passes it on."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled, where there is room. No waiting, no logging."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        self._entered.add()
        if self._begun:
            self._late.add()
            return
        waiting = self._entered.value() - self._watched.settled - self._refused.value()
        if waiting > self._max_queue_size:
            self._refused.add()
            return
        self._is_used = True
        if self._runner is None or not self._runner.is_alive():
            self._start_runner()
        self._inner.on_end(span)

    def stats(self) -> Stats:
        """What became of the spans; those that wait when it gives up are lost by `shutdown`."""
        ended, watched = self._entered.value(), self._watched
        dropped = {
            "queue_full": self._refused.value(),
            "after_shutdown": self._late.value(),
            "not_accepted": watched.lost,
        }
        waiting = max(ended - watched.accepted - sum(dropped.values()), 0)
        if self._ended.is_set():
            dropped["shutdown"], waiting = waiting, 0
        return Stats(
            ended=ended,
            accepted=watched.accepted,
            queued=waiting,
            dropped={reason: spans for reason, spans in dropped.items() if spans},
        )

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
        lost, done = self._watched.lost, Interrupt()
        self._run(lambda: (self._inner.force_flush(), done.set()))
        return lambda seconds: done.wait(seconds) and self._watched.lost == lost

    def begin_shutdown(self) -> None:
        """Has what is left sent in the background; `shutdown` waits for it. Once."""
        if not self._begun:
            self._begun.append((time.monotonic(), self._watched.accepted))
            self._run(lambda: (self._inner.shutdown(), self._ended.set()))
            self._calls.put(None)
            processors.discard(self)

    def shutdown(self) -> None:
        """Sends what is left. Once."""
        self.begin_shutdown()
        begun, accepted = self._begun[0]
        deadline, give_up_at = begun + self._shutdown_timeout, begun + PATIENCE
        while not self._ended.is_set():
            if self._watched.accepted != accepted:
                accepted, give_up_at = self._watched.accepted, time.monotonic() + PATIENCE
            left = min(deadline, give_up_at) - time.monotonic()
            if left <= 0:
                break
            self._ended.wait(min(left, _GLANCE))
        self._ended.set()
        try:
            self._may_say.pop()
        except IndexError:
            return
        lost = sum(self.stats().dropped.values())
        if lost:
            logger.warning("%s spans did not reach %s.", lost, self.destination)

    def _say_refusals(self) -> None:
        # Called by the thread that sends, at most once a minute.
        refused = self._refused.value()
        new, self._said = refused - self._said, refused
        if new:
            logger.warning("%s spans did not reach %s: the queue was full.", new, self.destination)

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
        self._entered, self._refused, self._late = Tally(), Tally(), Tally()
        self._said = 0
        self._is_used = False
        self._ended = Interrupt()
        self._may_say: list[bool] = [] if self._begun else [True]
        if self._begun:
            self._ended.set()
        self._watched.start_over()


class _Watched(SpanExporter):
    """Counts what became of the spans that an exporter was given."""

    def __init__(
        self, inner: SpanExporter, destination: str, say_refusals: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._destination = destination
        self._say_refusals = say_refusals
        self.start_over()

    def start_over(self) -> None:
        """Nothing was given so far."""
        # One thread exports at a time.
        self.accepted = self.lost = 0
        self._silent_until = self._counted_until = 0.0

    @property
    def settled(self) -> int:
        """Spans that don't wait any more."""
        return self.accepted + self.lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Passes them on."""
        if time.monotonic() >= self._counted_until:
            self._counted_until = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._say_refusals()
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001  # that of OpenTelemetry 1.36 raises where nobody answers
            self._say(len(spans), type(error).__name__)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.accepted += len(spans)
            else:
                self.lost += len(spans)
        return result

    def _say(self, lost: int, why: str) -> None:
        # Those that only return a failure have said so themselves.
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SECONDS_BETWEEN_LINES
            logger.warning("%s spans did not reach %s: %s.", lost, self._destination, why)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self._inner.shutdown()


processors: weakref.WeakSet[BoundedBatchProcessor] = weakref.WeakSet()
"""Those that go on: they flush and end at the same time as AgentPulse's own, not one by one."""


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
