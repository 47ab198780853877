"""What became of the spans that go to another exporter, counted without a lock, and said."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from agentpulse_exporter import Stats
from agentpulse_exporter.counters import Tally, number_of_spans
from agentpulse_exporter.lifetime import after_fork
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse.logs import logger

_SECONDS_BETWEEN_LINES = 60.0


class Outcomes:
    """The counts of one processor and of the exporter behind it."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Starts from zero, as a child process does."""
        # On the threads of callers.
        self.entered, self.refused, self.late = Tally(), Tally(), Tally()
        # By the one thread that exports at a time.
        self.accepted = self.lost = 0
        self._reasons: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Spans that wait for the exporter, or are with it."""
        return self.entered.value() - self.accepted - self.lost - self.refused.value()

    def drop(self, reason: str, spans: int = 1) -> None:
        """So many spans are lost, of those that the exporter was given."""
        self._reasons[reason] += spans
        self.lost += spans

    def stats(self, *, is_over: bool) -> Stats:
        """All counts; what waits when all `is_over` is lost."""
        accepted = self.accepted
        callers = {"queue_full": self.refused.value(), "after_shutdown": self.late.value()}
        dropped = {**callers, **self._reasons}
        # Read last: all that is counted above has entered by then.
        ended = self.entered.value()
        queued = ended - accepted - sum(dropped.values())
        if is_over:
            dropped["shutdown"], queued = queued, 0
        return Stats(
            ended=ended,
            accepted=accepted,
            queued=queued,
            dropped={reason: spans for reason, spans in dropped.items() if spans},
        )


def counted(
    exporter: SpanExporter, outcomes: Outcomes, destination: str, say_more: Callable[[], None]
) -> SpanExporter:
    """The exporter, with what becomes of the spans counted; what it leaves out, it counts itself.

    Args:
        exporter: The exporter.
        outcomes: The counts.
        destination: What the log calls it.
        say_more: Is called at most once a minute, by the thread that sends.
    """
    return _Counted(exporter, outcomes, destination, say_more)


class _Counted(SpanExporter):
    def __init__(
        self,
        inner: SpanExporter,
        outcomes: Outcomes,
        destination: str,
        say_more: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._outcomes = outcomes
        self._destination = destination
        self._say_more = say_more
        self._start_over()
        after_fork(self._start_over)

    def _start_over(self) -> None:
        # Nothing was said so far.
        self._silent_until = self._say_more_at = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Passes them on."""
        if time.monotonic() >= self._say_more_at:
            self._say_more_at = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._say_more()
        outcomes, lost = self._outcomes, self._outcomes.lost
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001  # that of OpenTelemetry 1.36 raises where nobody answers
            self._say(len(spans), type(error).__name__)
        finally:
            passed_on = len(spans) - (outcomes.lost - lost)
            if result is SpanExportResult.SUCCESS:
                outcomes.accepted += passed_on
            else:
                outcomes.drop("not_accepted", passed_on)
        return result

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self._inner.shutdown()

    def _say(self, lost: int, why: str) -> None:
        # Those that only return a failure have said so themselves.
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SECONDS_BETWEEN_LINES
            logger.warning(
                "%s did not reach %s: %s.", number_of_spans(lost), self._destination, why
            )
