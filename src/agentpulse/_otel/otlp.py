"""Other backends that get the same spans, priced, beside AgentPulse, with counts for each.

`otlp_endpoint` is the pipeline's own, and ends with it. The exporters that OTEL_TRACES_EXPORTER
names were there before the pipeline, and go on.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator

from agentpulse_exporter import CostEnrichingExporter, Stats
from agentpulse_exporter._delivery.process import after_fork
from agentpulse_exporter._delivery.stats import Counters
from agentpulse_exporter._dialects.normalize import concerns_agents
from agentpulse_exporter._ledger.ownership import origins
from agentpulse_exporter._wire.copies import PrivateExporter
from opentelemetry.sdk.trace.export import SpanExporter

from agentpulse._otel.bounded import BoundedBatchProcessor
from agentpulse._output import warn_once
from agentpulse.settings import Settings

_PATH = "/v1/traces"
_PATIENCE = 2.0
"""Seconds that a request may take."""


lasting: weakref.WeakSet[BoundedBatchProcessor] = weakref.WeakSet()
"""The processors of the exporters of OTEL_TRACES_EXPORTER."""


class Destinations:
    """Counts the spans for other destinations from when it is made until `close`."""

    def __init__(self, settings: Settings) -> None:
        self._lasting = [each for each in lasting if not each.has_begun_to_end]
        self.own: tuple[BoundedBatchProcessor, ...] = tuple(_by_otlp(settings))
        """The processor of `otlp_endpoint`, for a provider to have; none, or one."""
        self._before = {each: each.stats() for each in self._lasting}
        self._final: dict[str, Stats] | None = None
        after_fork(self._start_over)

    def stats(self) -> dict[str, Stats]:
        """The counts by destination, those of one name together."""
        if self._final is not None:
            return dict(self._final)
        sums: dict[str, Stats] = {}
        for each in self._all():
            since = _since(self._before.get(each, Stats()), each.stats())
            sums[each.destination] = _sum(sums.get(each.destination, Stats()), since)
        return sums

    def begin_flush(self, timeout: float) -> Callable[[float], bool]:
        """Begins to send the spans that have ended, to all destinations, in the background.

        Returns:
            A function that waits for that until a monotonic time; whether all were accepted.
        """
        waits = [each.begin_flush(timeout) for each in self._all()]

        def are_sent(deadline: float) -> bool:
            sent = [wait(deadline - time.monotonic()) for wait in waits]
            return all(sent)

        return are_sent

    def begin_to_end(self) -> None:
        """Begins to send the last spans to all destinations, as the process ends."""
        for each in self._all():
            each.begin_shutdown()

    def finish(self) -> None:
        """Waits for our own; the provider waits for the others."""
        for each in self.own:
            each.finish()

    def begin_to_close(self) -> None:
        """Begins to send the last spans to our own, in the background."""
        for each in self.own:
            each.begin_shutdown()

    def close(self, timeout: float) -> bool:
        """Ends our own within so many seconds, and fixes the counts; the others go on.

        Returns:
            True only if our own accepted every span.
        """
        try:
            sent = [each.stop(timeout) for each in self.own]
            return all(sent)
        finally:
            self._final = self.stats()

    def _all(self) -> list[BoundedBatchProcessor]:
        return [*self.own, *self._lasting]

    def _start_over(self) -> None:
        # All processors start from zero in a child process.
        self._before.clear()
        if self._final is not None:
            self._final = dict.fromkeys(self._final, Stats())


def _by_otlp(settings: Settings) -> Iterator[BoundedBatchProcessor]:
    """The processor of `otlp_endpoint`, where that is set and can be made."""
    if settings.otlp_endpoint is not None:
        try:
            processor = _otlp_processor(settings.otlp_endpoint, settings)
        except Exception as error:  # noqa: BLE001  # it reads OpenTelemetry's variables, too
            warn_once(f"Nothing is sent by OTLP: {type(error).__name__}: {error}")
        else:
            yield from () if processor is None else (processor,)


def _otlp_processor(endpoint: str, settings: Settings) -> BoundedBatchProcessor | None:
    """Sends by OTLP over HTTP; None without the exporter, which the extra `otlp` has.

    Headers, certificates and time-outs are those of OpenTelemetry's own variables
    (`OTEL_EXPORTER_OTLP_HEADERS` and its kin).
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        warn_once(
            "Nothing is sent by OTLP, because its exporter is not installed: "
            'pip install "agentpulse-sdk[otlp]".'
        )
        return None
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
            (settings.export_all_spans or concerns_agents(span)) and not origins.is_inherited(span)
        ),
        counters=counters,
        max_queue_size=settings.max_queue_size,
        shutdown_timeout=settings.shutdown_timeout,
    )


def _timeout() -> float | None:
    """The seconds of one request, unless OpenTelemetry's variables have them."""
    named = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(name) for name in named) else _PATIENCE


def _since(before: Stats, now: Stats) -> Stats:
    """The counts of the spans that waited before or ended since."""
    return Stats(
        ended=now.ended - before.ended + before.queued,
        accepted=now.accepted - before.accepted,
        queued=now.queued,
        dropped=dict(Counter(now.dropped) - Counter(before.dropped)),
    )


def _sum(one: Stats, other: Stats) -> Stats:
    return Stats(
        ended=one.ended + other.ended,
        accepted=one.accepted + other.accepted,
        queued=one.queued + other.queued,
        dropped=dict(Counter(one.dropped) + Counter(other.dropped)),
    )
