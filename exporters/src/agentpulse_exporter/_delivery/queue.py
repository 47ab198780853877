"""The batch queue: ended spans wait here, in bounded memory, until the worker has them sent.

The processor of the SDK waits 30 seconds at exit, flushes without a timeout, starts a thread in
every forked child, and logs on the caller's thread. Here the caller's thread adds to a queue and
does nothing else, and every wait has an end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from agentpulse_exporter._delivery.process import Alarm, after_fork, bounded, wait_until
from agentpulse_exporter._delivery.stats import AFTER_SHUTDOWN, Counters, Stats, Waiting
from agentpulse_exporter._values import shielded

PATIENCE = 2.2
"""Seconds that the end of the process waits for a receiver that accepts nothing meanwhile."""
_UNTIL_ABORTED = 0.2
"""Seconds that a request that was cut off takes to end."""
_SOON = 1.0
"""Seconds between two sendings that somebody wants soon."""


class Sender(Protocol):
    """Sends the spans that leave the queue. One thread at a time calls `send`.

    The defaults are those of one that keeps no spans and never waits for its receiver.
    """

    @property
    def has_kept(self) -> bool:
        """Whether it keeps spans that were to be sent, for later."""
        return False

    @property
    def has_put_off(self) -> bool:
        """Whether some of those could not be sent so far, as the receiver was away."""
        return False

    def belong_to_this_thread(self) -> None:
        """Waits from now on as this thread does, in which everything is sent."""

    def pause(self) -> float:
        """Seconds for which it sends nothing, as the receiver asks, or because it is away.

        They are endless once the end came and the receiver is dead.
        """
        return 0.0

    def look_again(self) -> None:
        """Ends the pause where the receiver was away, for somebody waits for the outcome."""

    def send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool = False) -> None:
        """Sends spans, and those kept; may keep some that fill no request. Never raises."""

    def finish_by(self, deadline: float, /) -> None:
        """Hurries, for all ends at this monotonic time."""

    def abort(self) -> None:
        """Ends the request that another thread waits for."""

    def close(self) -> None:
        """Counts the rest as lost. Nothing is sent any more."""


@dataclass(slots=True)
class Flush:
    """A request to send all spans that had ended when it was made."""

    up_to: int
    """So many spans must have left the queue."""
    deadline: float
    """Of the monotonic clock."""
    is_sent: bool | None = None
    """The outcome; None until there is one."""


class QueueProcessor(SpanProcessor):
    """A span processor that is the queue of one sender; it flushes and stops within a time.

    Its worker starts with the first span, in a forked child anew and with an empty queue.

    Args:
        sender: What sends the spans.
        counters: What becomes of them.
        flush_interval: Seconds between two sendings.
        max_queue_size: Spans that wait, at most; the oldest are dropped, and counted.
        max_batch_size: So many waiting spans are sent at once; fewer wait on.
        shutdown_timeout: Seconds that `shutdown` may take.
        at_end: Is called after the last sending by the thread that made it.
        starts_now: Whether the worker starts at once, since none can be started at the end of the
            interpreter, where the sender is one that nobody but a worker may wait for.
    """

    outlasts: Callable[[], bool] = staticmethod(lambda: False)
    """Asked when the provider is shut down; whoever sets it calls `stop` in the end."""

    def __init__(
        self,
        sender: Sender,
        counters: Counters,
        *,
        flush_interval: float,
        max_queue_size: int,
        max_batch_size: int,
        shutdown_timeout: float,
        at_end: Callable[[], object] | None = None,
        starts_now: bool = False,
    ) -> None:
        self._sender = sender
        self._counters = counters
        self._flush_interval = flush_interval
        self._max_queue_size = max_queue_size
        self._max_batch_size = max_batch_size
        self._shutdown_timeout = shutdown_timeout
        self._repeated: tuple[Callable[[], ReadableSpan | None], float] | None = None
        self._next_repeat = 0.0
        self._at_end = at_end
        # Acquired once, for good: of several callers that stop it one begins, and one closes.
        self._stopping, self._closing = threading.Lock(), threading.Lock()
        self._start_over()
        if starts_now:
            self._start_worker()
        after_fork(self._begin_child)

    @property
    def is_stopped(self) -> bool:
        """Whether it takes no spans any more."""
        return self._stopping.locked()

    def enqueue(self, span: ReadableSpan) -> None:
        """Queues a span. No waiting, no logging, from any thread, signal handler or finalizer."""
        counters = self._counters
        counters.ended.add_one()
        if self._stopping.locked():
            counters.dropped(AFTER_SHUTDOWN)
            return
        is_batch = self._waiting.add(span) >= self._max_batch_size
        if self._worker is None or not self._worker.is_alive():
            self._start_worker()
        if is_batch and not self._is_called:
            self._is_called = True
            self._alarm.ring()

    def repeat(self, make: Callable[[], ReadableSpan | None], every: float) -> None:
        """Has the worker queue the span that `make` returns, each time so many seconds have passed.

        Between two sendings, so no sooner than these.
        """
        self._repeated = (make, every)
        self._next_repeat = time.monotonic() + every

    def send_soon(self) -> None:
        """Has all that waits sent at once; not again within a second."""
        now = time.monotonic()
        if now - self._sent_soon >= _SOON and self._worker is not None:
            self._sent_soon = now
            self._call_for_all()

    def begin_flush(self, timeout: float) -> Callable[[float], bool]:
        """Has all spans that have ended sent in the background, within so many seconds.

        Returns:
            Waits for that, so many seconds at most; returns whether all were accepted, and no loss
            is left that no flush has reported.
        """
        if self.is_stopped:
            return lambda _seconds: False
        deadline = time.monotonic() + bounded(timeout)
        # Where gevent came after the worker, both get their first event loop now: one after the
        # other, for gevent may wait for ever where they do so at once.
        time.sleep(0)
        reported, flush = self._reported, Flush(self._waiting.entered, deadline)
        if self._start_worker():
            self._flushes.append(flush)
            self._call_for_all()
        else:
            flush.is_sent = self._drain(flush)

        def is_complete(seconds: float) -> bool:
            wait_until(lambda: flush.is_sent is not None, time.monotonic() + bounded(seconds))
            lost = self._counters.lost()
            if lost != reported:
                self._reported = lost
            return flush.is_sent is True and lost == reported

        return is_complete

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends all spans that have ended; waits `timeout` seconds at most. Never raises.

        Returns:
            True only if all were accepted, and no loss is left that no flush has reported.
        """
        return self.begin_flush(timeout)(timeout)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """As `flush`, in milliseconds."""
        return self.flush(bounded(timeout_millis, per_second=1000))

    def stats(self) -> Stats:
        """The counts of the spans; those that wait when it gives up are lost by `shutdown`."""
        return self._counters.stats()

    def shutdown(self) -> None:
        """Stops within `shutdown_timeout`, unless `outlasts` returns true."""
        if not self.outlasts():
            self.finish()

    def finish(self) -> None:
        """Stops within `shutdown_timeout`, from where the end has begun."""
        self.stop(self._shutdown_timeout)

    def begin_stop(self, timeout: float) -> None:
        """Has the rest sent in the background, within so many seconds. Once."""
        self._deadline = min(self._deadline, time.monotonic() + bounded(timeout))
        if not self._stopping.acquire(blocking=False):
            return
        self._begun = time.monotonic()
        self._sender.finish_by(self._deadline)
        self._alarm.ring()

    def stop(self, timeout: float = 5.0) -> bool:
        """Sends the rest, `timeout` seconds at most; spans that aren't accepted then are dropped.

        Returns:
            True only if all that ever ended was accepted; the same whenever it is called again.
        """
        self.begin_stop(timeout)
        worker = self._worker
        if worker is not None and worker.is_alive():
            self._wait_for(worker)
        if self._closing.acquire(blocking=False):
            if worker is None or not worker.is_alive():
                self._send_last()
            self._sender.close()
        return not self._counters.lost()

    def _wait_for(self, worker: threading.Thread) -> None:
        """Waits while the receiver accepts things; one that doesn't is given up before."""
        accepted, give_up_at = self._counters.stats().accepted, self._begun + PATIENCE

        def is_over() -> bool:
            nonlocal accepted, give_up_at
            before, now = accepted, time.monotonic()
            accepted = self._counters.stats().accepted
            if accepted != before:
                give_up_at = now + PATIENCE
            return not worker.is_alive() or now >= give_up_at

        wait_until(is_over, self._deadline)
        if worker.is_alive():
            self._sender.abort()
            wait_until(lambda: not worker.is_alive(), time.monotonic() + _UNTIL_ABORTED)

    def _begin_child(self) -> None:
        self._counters.reset()
        self._start_over()

    def _start_over(self) -> None:
        self._starting = threading.Lock()
        self._waiting = Waiting(self._max_queue_size, self._counters.dropped)
        self._flushes: deque[Flush] = deque()
        self._alarm = Alarm()
        self._worker: threading.Thread | None = None
        self._is_called = self._is_called_for_all = False
        self._ending = threading.Lock()
        self._sent_soon = 0.0
        self._reported = 0
        """Losses that a flush has reported."""
        self._begun, self._deadline = 0.0, float("inf")

    def _call_for_all(self) -> None:
        self._is_called = self._is_called_for_all = True
        self._alarm.ring()

    def _start_worker(self) -> bool:
        """Whether a worker runs, or is about to; at the end of the interpreter none can start."""
        if not self._starting.acquire(blocking=False):
            # Another thread is starting it, or this one is, and a signal handler came in between.
            return True
        try:
            if self._worker is None or not self._worker.is_alive():
                # Of one kind with the thread, also where these were replaced since.
                self._alarm = Alarm()
                worker = threading.Thread(
                    target=self._work, args=(self._alarm,), name="agentpulse", daemon=True
                )
                worker.start()
                self._worker = worker
        except RuntimeError:
            return False
        finally:
            self._starting.release()
        return True

    def _work(self, alarm: Alarm) -> None:
        """The life of the worker: sends every interval, at a full batch, and when asked to."""
        self._sender.belong_to_this_thread()
        while not self.is_stopped:
            interval = self._flush_interval
            # A call may have come before there was an alarm to ring.
            has_rung = self._is_called_for_all or alarm.wait(
                min(interval, self._sender.pause() or interval)
            )
            self._add_repeated()
            while self._flushes and not self.is_stopped:
                flush = self._flushes.popleft()
                flush.is_sent = self._drain(flush)
            least = 0 if self._is_called_for_all or not has_rung else self._max_batch_size
            is_held = self._sender.pause() > 0
            # From here on a new span calls again; while nothing may be sent, it need not.
            self._is_called, self._is_called_for_all = is_held, False
            if not is_held and not self.is_stopped:
                self._send_waiting(least)
        self._send_last()
        while self._flushes:
            self._flushes.popleft().is_sent = False

    def _add_repeated(self) -> None:
        if self._repeated is None or time.monotonic() < self._next_repeat or self.is_stopped:
            return
        make, every = self._repeated
        self._next_repeat = time.monotonic() + every
        made = shielded("make an event that is repeated", make, None)
        if made is not None:
            self.enqueue(made)

    def _send_last(self) -> None:
        """Sends the last spans, in the thread that comes here first."""
        if not self._ending.acquire(blocking=False):
            return
        self._send_waiting(0)
        if self._at_end is not None:
            self._at_end()

    def _next(self) -> list[ReadableSpan]:
        """The spans to send next: none where some were put off.

        Else each try of a receiver that is away would take more out of the bounds of the queue.
        """
        return [] if self._sender.has_put_off else self._waiting.take(self._max_batch_size)

    def _send_waiting(self, least: int) -> None:
        """Sends as long as so many wait, and with 0 also those kept."""
        sender = self._sender
        if not least and not len(self._waiting) and not sender.has_kept:
            return
        while len(self._waiting) >= least:
            sender.send(self._next(), leaves_rest=bool(least or len(self._waiting)))
            if not len(self._waiting) or sender.pause():
                return

    def _drain(self, flush: Flush) -> bool:
        """Sends until the spans of the flush have left the queue; whether they have, in time."""
        sender = self._sender
        sender.look_again()
        while not self.is_stopped:
            if self._waiting.left >= flush.up_to and not sender.has_kept:
                return True
            pause = sender.pause()
            if time.monotonic() + pause >= flush.deadline:
                return False
            if pause:
                self._alarm.wait(pause)
            else:
                sender.send(self._next(), leaves_rest=self._waiting.left < flush.up_to)
        return False
