"""The batch queue: ended spans wait, in bounded memory (`stats.Waiting`), until they are sent.

The SDK's batch processor waits 30 seconds at exit, flushes without a timeout, starts a thread in
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
"""Seconds that the end of the process waits for a receiver that accepts nothing."""
_UNTIL_ABORTED = 0.2
"""Seconds that an aborted request may take to end."""
_SOON = 1.0
"""Seconds, at least, between two calls of `send_soon` that have an effect."""


class Sender(Protocol):
    """Sends the spans that leave the queue. One thread at a time calls `send`.

    The defaults are for a sender that keeps no spans and never waits for its receiver.
    """

    @property
    def has_kept(self) -> bool:
        """Whether the sender keeps spans that it will send later."""
        return False

    @property
    def has_put_off(self) -> bool:
        """Whether kept spans were tried, and could not be sent so far."""
        return False

    def belong_to_this_thread(self) -> None:
        """Called once on the worker thread; later waits use its kind of sleep (gevent, native)."""

    def pause(self) -> float:
        """Seconds for which nothing is sent: the receiver asks for a pause, or is away.

        Infinite if the process is ending and the receiver doesn't answer.
        """
        return 0.0

    def look_again(self) -> None:
        """Ends the pause of an absent receiver at once, because a caller waits for a flush."""

    def send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool = False) -> None:
        """Sends these spans and the kept ones, and may keep a part. Never raises.

        With `leaves_rest`, spans that don't fill a request may wait.
        """

    def finish_by(self, deadline: float, /) -> None:
        """Sets the deadline (monotonic clock) after which nothing more is sent."""

    def abort(self) -> None:
        """Ends the request for which another thread waits."""

    def end(self) -> None:
        """Called once after the last sending, on the thread that sent."""

    def close(self) -> None:
        """Counts the unsent spans as dropped. Nothing is sent afterwards."""


@dataclass(slots=True)
class Flush:
    """A request to send all spans that had ended when it was made."""

    up_to: int
    """The number of spans that must have left the queue, since the start."""
    deadline: float
    """A time of the monotonic clock."""
    is_sent: bool | None = None
    """The outcome; None while the flush runs."""


class QueueProcessor(SpanProcessor):
    """A span processor with a queue for one sender; it flushes and stops within a time limit.

    Its worker starts with the first span. A forked child gets a new worker and an empty queue.

    Args:
        sender: Sends the spans.
        counters: Counts the spans by outcome.
        flush_interval: Seconds between two sendings.
        max_queue_size: Spans that wait, at most; the oldest are dropped, and counted.
        max_batch_size: As soon as so many spans wait, they are sent; fewer wait for the interval.
        shutdown_timeout: Seconds that `shutdown` may take.
    """

    outlasts: Callable[[], bool] = staticmethod(lambda: False)
    """If it returns True, `shutdown` is ignored; the caller that set it must call `stop`."""

    def __init__(
        self,
        sender: Sender,
        counters: Counters,
        *,
        flush_interval: float,
        max_queue_size: int,
        max_batch_size: int,
        shutdown_timeout: float,
    ) -> None:
        self._sender = sender
        self._counters = counters
        self._flush_interval = flush_interval
        self._max_queue_size = max_queue_size
        self._max_batch_size = max_batch_size
        self._shutdown_timeout = shutdown_timeout
        self._repeated: tuple[Callable[[], ReadableSpan | None], float] | None = None
        self._next_repeat = 0.0
        # Acquired once, for good: of several callers of `stop`, only one begins, and one closes.
        self._stopping, self._closing = threading.Lock(), threading.Lock()
        self._start_over()
        after_fork(self._begin_child)

    @property
    def is_stopped(self) -> bool:
        """Whether it takes no spans any more."""
        return self._stopping.locked()

    def enqueue(self, span: ReadableSpan) -> None:
        """Queues a span, from any thread, signal handler or finalizer. Doesn't wait or log."""
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
        """Makes the worker queue the span that `make` returns, every `every` seconds.

        The worker does this between two sendings, so the interval may be longer.
        """
        self._repeated = (make, every)
        self._next_repeat = time.monotonic() + every

    def send_soon(self) -> None:
        """Makes the worker send all waiting spans at once, but not twice within a second."""
        now = time.monotonic()
        if now - self._sent_soon >= _SOON and self._worker is not None:
            self._sent_soon = now
            self._call_for_all()

    def begin_flush(self, timeout: float) -> Callable[[float], bool]:
        """Starts to send all ended spans in the background, within `timeout` seconds.

        Returns:
            A function that waits for the outcome, at most the given number of seconds. It returns
            whether all spans were accepted, and every loss was reported by an earlier flush.
        """
        if self.is_stopped:
            return lambda _seconds: False
        deadline = time.monotonic() + bounded(timeout)
        # If gevent patched threads after the worker started, this thread and the worker get their
        # first event loops now. They get them one after the other, because gevent may wait for
        # ever if both do so at once.
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
            True only if all were accepted, and every loss was reported by an earlier flush.
        """
        return self.begin_flush(timeout)(timeout)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """As `flush`, in milliseconds."""
        return self.flush(bounded(timeout_millis, per_second=1000))

    def stats(self) -> Stats:
        """The counts of the spans.

        Spans still queued when it gives up are counted as dropped, with the reason `shutdown`.
        """
        return self._counters.stats()

    def shutdown(self) -> None:
        """Stops within `shutdown_timeout`, unless `outlasts` returns true."""
        if not self.outlasts():
            self.finish()

    def finish(self) -> None:
        """Stops within `shutdown_timeout`, also if `outlasts` returns true."""
        self.stop(self._shutdown_timeout)

    def begin_stop(self, timeout: float) -> None:
        """Starts to send the rest in the background, within `timeout` seconds. Only once."""
        self._deadline = min(self._deadline, time.monotonic() + bounded(timeout))
        if not self._stopping.acquire(blocking=False):
            return
        self._begun = time.monotonic()
        self._sender.finish_by(self._deadline)
        self._alarm.ring()

    def stop(self, timeout: float = 5.0) -> bool:
        """Sends the rest, `timeout` seconds at most, and drops spans that weren't accepted by then.

        Returns:
            True only if all spans that ever ended were accepted; a repeated call returns the same.
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
        """Waits while the receiver accepts spans; gives up `PATIENCE` seconds after the last."""
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
        """Starts a worker if none runs; returns whether there is a worker now.

        At the end of the interpreter, no worker can start.
        """
        if not self._starting.acquire(blocking=False):
            # Another thread is starting the worker, or a signal handler interrupted this thread's
            # start.
            return True
        try:
            if self._worker is None or not self._worker.is_alive():
                # The alarm must be of the thread's kind, even if gevent replaced both since.
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
        """Runs the worker: sends every interval, for a full batch, and when asked to."""
        self._sender.belong_to_this_thread()
        while not self.is_stopped:
            interval = self._flush_interval
            # A call may have come before the alarm existed.
            has_rung = self._is_called_for_all or alarm.wait(
                min(interval, self._sender.pause() or interval)
            )
            self._add_repeated()
            while self._flushes and not self.is_stopped:
                flush = self._flushes.popleft()
                flush.is_sent = self._drain(flush)
            least = 0 if self._is_called_for_all or not has_rung else self._max_batch_size
            is_held = self._sender.pause() > 0
            # From here on a new span rings the alarm again, unless nothing may be sent.
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
        """Sends the last spans, on the first thread that calls this."""
        if not self._ending.acquire(blocking=False):
            return
        self._send_waiting(0)
        self._sender.end()

    def _next(self) -> list[ReadableSpan]:
        """The spans to send next; empty if kept spans could not be sent so far.

        Otherwise each try with the receiver away would take more spans out of the bounded queue.
        """
        return [] if self._sender.has_put_off else self._waiting.take(self._max_batch_size)

    def _send_waiting(self, least: int) -> None:
        """Sends while at least `least` spans wait; with 0, also sends the kept spans."""
        sender = self._sender
        if not least and not len(self._waiting) and not sender.has_kept:
            return
        while len(self._waiting) >= least:
            sender.send(self._next(), leaves_rest=bool(least or len(self._waiting)))
            if not len(self._waiting) or sender.pause():
                return

    def _drain(self, flush: Flush) -> bool:
        """Sends until the spans of the flush have left the queue; returns whether in time."""
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
