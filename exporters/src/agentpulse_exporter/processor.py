"""`AgentPulseSpanProcessor`: a bounded queue of ended spans, and the worker that sends them.

The processor of the SDK waits 30 seconds at exit, flushes without a timeout, starts a thread in
every forked child, and logs on the caller's thread. This one adds to a queue on the caller's
thread and does nothing else there.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from agentpulse_exporter.counters import Stats
from agentpulse_exporter.dialects import concerns_agents
from agentpulse_exporter.exporter import AgentPulseSpanExporter
from agentpulse_exporter.flushing import Flush, Wake
from agentpulse_exporter.lifetime import after_fork, at_end_of_child, at_exit
from agentpulse_exporter.starting import as_started, is_told_at_start
from agentpulse_exporter.waiting import WaitingSpans

_logger = logging.getLogger("agentpulse.exporter")

_SOON = 1.0
"""Seconds between two sendings of what starts; all else waits for the interval, or a batch."""
PATIENCE = 2.2
"""Seconds that the end of the process waits for a receiver that accepts nothing meanwhile."""


class AgentPulseSpanProcessor(SpanProcessor):
    """Batches spans that concern agents, in bounded memory, and has them sent in the background.

    Its thread starts with the first span. In a forked child it starts over, with an empty queue.

    Args:
        exporter: Where the spans go.
        flush_interval: Seconds between two sendings.
        max_queue_size: Spans that wait, at most; the oldest are dropped, and counted.
        max_batch_size: So many waiting spans are sent at once; what fills no request waits on.
        shutdown_timeout: Seconds that `shutdown`, or the end of the process, may take.
        export_all_spans: Whether spans that have nothing to do with agents are sent too.
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
        self._flush_interval = flush_interval
        self._max_queue_size = max_queue_size
        self._max_batch_size = max_batch_size
        self._shutdown_timeout = shutdown_timeout
        self._export_all_spans = export_all_spans
        self._is_stopped = False
        self._repeated: tuple[Callable[[], ReadableSpan | None], float] | None = None
        self._next_repeat = 0.0
        self._start_over()
        at_exit(self._at_exit)
        at_end_of_child(self._at_exit)
        after_fork(self._start_over)

    def on_start(
        self,
        span: Span,
        parent_context: Context | None = None,  # noqa: ARG002  # as the SDK calls it
    ) -> None:
        """Queues what tells that a session, a cron run or an agent is under way."""
        self._exporter.announce(span, travels=self._export_all_spans or concerns_agents(span))
        if is_told_at_start(span) and self._is_taken(span):
            self.enqueue(as_started(span))
            self._send_soon()

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
        if claimant.is_alone or self._is_stopped:
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
        if not self._exporter.is_on:
            return
        counters = self._exporter.counters
        counters.ended.add()
        if self._is_stopped:
            counters.overflow("after_shutdown")
            return
        is_batch = self._queue.add(span) >= self._max_batch_size
        if self._worker is None or not self._worker.is_alive():
            self._start_worker()
        if is_batch and not self._is_called:
            self._is_called = True
            self._calls.put(Wake.FULL)

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends what has ended until now; waits `timeout` seconds at most.

        Returns:
            True only if all of it was accepted.
        """
        if not self._exporter.is_on:
            return True
        deadline = time.monotonic() + timeout
        if self._is_stopped:
            return False
        if not self._start_worker():
            return self._drain(deadline, self._queue.entered)
        done = Flush(deadline, self._queue.entered)
        self._calls.put(done)
        return done.finished.wait(max(timeout, 0.0)) and done.is_complete

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """As `flush`, in milliseconds."""
        return self.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Stops within `shutdown_timeout`, unless `outlasts` says that it goes on elsewhere."""
        if not self.outlasts():
            self.stop(self._shutdown_timeout)

    def stop(self, timeout: float = 5.0) -> bool:
        """Sends what is left, `timeout` seconds at most; what isn't accepted then is lost. Once.

        Returns:
            True only if all that was left was accepted.
        """
        if self._is_stopped:
            return True
        self._is_stopped = True
        exporter = self._exporter
        lost = exporter.counters.lost()
        deadline = time.monotonic() + timeout
        exporter.finish_by(deadline)
        worker = self._worker
        if worker is not None and worker.is_alive():
            self._calls.put(Wake.ALL)
            self._wait_for(worker, deadline)
        elif self._queue or exporter.has_kept:
            self._drain(deadline, self._queue.entered)
        exporter.close()
        return exporter.counters.lost() == lost

    def stats(self) -> Stats:
        """What became of every span that ended and concerns agents."""
        return self._exporter.stats()

    def _is_taken(self, span: ReadableSpan) -> bool:
        """Whether this one tells of it; one that has stopped leaves it to others, if there are."""
        claimant = self._exporter.claimant
        if self._is_stopped and not claimant.is_alone:
            return False
        return claimant.claim(span)

    def _is_queued(self, span: ReadableSpan) -> bool:
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return False
        return self._export_all_spans or self._exporter.takes(span)

    def _wait_for(self, worker: threading.Thread, deadline: float) -> None:
        """Waits while the receiver accepts things; one that doesn't is given up before."""
        accepted, given_up_at = -1, 0.0
        while worker.is_alive() and time.monotonic() < deadline:
            now = self._exporter.counters.stats(queued=0).accepted
            if now != accepted:
                accepted, given_up_at = now, time.monotonic() + PATIENCE
            until = min(deadline, given_up_at)
            if time.monotonic() >= until:
                break
            worker.join(min(until - time.monotonic(), 0.25))
        if worker.is_alive():
            self._exporter.abort()
            worker.join(0.2)

    def _at_exit(self) -> None:
        self.stop(self._shutdown_timeout)

    def _start_over(self) -> None:
        self._starting = threading.RLock()
        # Emptied while a worker is started: popping is atomic, and the lock is reentrant.
        self._may_start = [True]
        self._queue = WaitingSpans(self._max_queue_size, self._exporter.counters.overflow)
        self._calls: queue.SimpleQueue[Flush | Wake] = queue.SimpleQueue()
        self._is_called = False
        self._worker: threading.Thread | None = None
        self._sent_soon = 0.0

    def _send_soon(self) -> None:
        """Has what starts told at once, but for what starts within a second of another."""
        now = time.monotonic()
        if now - self._sent_soon >= _SOON and self._worker is not None:
            self._sent_soon = now
            self._is_called = True
            self._calls.put(Wake.ALL)

    def _start_worker(self) -> bool:
        """Whether a worker runs now; near the end of the interpreter none can be started."""
        with self._starting:
            try:
                may_start = self._may_start.pop()
            except IndexError:
                # A signal handler, in the middle of what follows: the worker is on its way.
                return True
            try:
                if self._worker is not None and self._worker.is_alive():
                    return True
                worker = threading.Thread(target=self.work, name="agentpulse", daemon=True)
                worker.start()
                self._worker = worker
            except RuntimeError:
                return False
            else:
                return True
            finally:
                self._may_start.append(may_start)

    def work(self) -> None:
        """The life of the worker: sends every interval, at a full batch, and when asked to."""
        while not self._is_stopped:
            try:
                call = self._calls.get(timeout=self._flush_interval)
            except queue.Empty:
                call = Wake.ALL
            self._is_called = False
            self._queue_repeated()
            if isinstance(call, Flush):
                call.is_complete = self._drain(call.deadline, call.up_to)
                call.finished.set()
            elif not self._exporter.delivery.hold.seconds() or self._is_stopped:
                self._send_queued(call)
        self._send_queued()
        while not self._calls.empty():
            call = self._calls.get()
            if isinstance(call, Flush):
                call.finished.set()

    def _queue_repeated(self) -> None:
        if self._repeated is None or time.monotonic() < self._next_repeat or self._is_stopped:
            return
        make, every = self._repeated
        self._next_repeat = time.monotonic() + every
        try:
            made = make()
            if made is not None:
                self.enqueue(made)
        except Exception as error:  # noqa: BLE001  # it must not end the worker
            _logger.debug("A repeated event could not be made: %s", type(error).__name__)

    def _send_queued(self, wake: Wake = Wake.ALL) -> None:
        delivery = self._exporter.delivery
        least = self._max_batch_size if wake is Wake.FULL else 0
        while len(self._queue) >= least:
            spans = self._queue.take(self._max_batch_size)
            self._exporter.send(spans, leaves_rest=bool(least or self._queue))
            if not self._queue or delivery.gave_up or delivery.hold.seconds():
                return

    def _drain(self, deadline: float, up_to: int) -> bool:
        """Sends until so many have left the queue; whether all was accepted in time."""
        exporter = self._exporter
        lost = exporter.counters.lost()
        while exporter.counters.lost() == lost and not exporter.delivery.gave_up:
            if self._queue.left >= up_to and not exporter.has_kept:
                return True
            wait = exporter.delivery.hold.seconds()
            if time.monotonic() + wait >= deadline:
                return False
            if wait and exporter.delivery.hurry.wait(wait):
                return False
            spans = self._queue.take(self._max_batch_size)
            exporter.send(spans, leaves_rest=self._queue.left < up_to)
        return False
