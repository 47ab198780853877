"""`AgentPulseSpanExporter`: spans in, ingest events at the receiver, or a counted reason.

It works behind any span processor, but only `AgentPulseSpanProcessor` sees spans start: behind
another one, starts have no events, the parent of a span may be one that isn't sent, and spans that
a fork inherited are not recognised. `OTEL_TRACES_EXPORTER=agentpulse` makes it under any other
distribution; AgentPulse's own starts `agentpulse.init` instead.

Events that the receiver asks to keep for later (`Retry-After`) stay here and are sent with the next
spans.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from opentelemetry import context as context_api
from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,  # pyright: ignore[reportPrivateUsage]  # every exporter needs it
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse_exporter._delivery.endpoint import known_keys, proxy_for
from agentpulse_exporter._delivery.http import Transport
from agentpulse_exporter._delivery.process import acquire, after_fork, at_exit, bounded
from agentpulse_exporter._delivery.stats import AFTER_SHUTDOWN, NO_KEY, Counters, Stats
from agentpulse_exporter._delivery.upload import ATTEMPT_AT_EXIT, Delivery
from agentpulse_exporter._dialects.normalize import is_genai_span
from agentpulse_exporter._ledger.ledger import Owner, origins
from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.overrides import use
from agentpulse_exporter._wire.copies import RedactionFailed
from agentpulse_exporter._wire.event import Batch, Event, Packer, without_superseded
from agentpulse_exporter._wire.mapper import Mapper, is_cut_short
from agentpulse_exporter.settings import ROWS, ApiKey, Settings, is_on, resolve

_logger = logging.getLogger("agentpulse.exporter")

MOST_KEPT = 10_000
"""Spans that are kept, at most, while the receiver wants nothing or is away.

The oldest are dropped first.
"""
MOST_BYTES_KEPT = 32 * 2**20
"""Bytes that the kept spans take, at most, as JSON and as data."""
SHUTDOWN_TIMEOUT = 5.0


class AgentPulseSpanExporter(SpanExporter):
    """Prices spans of LLM calls and agents, and uploads them to AgentPulse.

    Without a key, nothing is sent, except to an endpoint on this machine. If another AgentPulse
    processor (that of `agentpulse.init`, for example) is on the same provider and sends to the same
    endpoint with the same key, this exporter sends only the spans that the other doesn't.

    If it is switched off when it is made (`enabled=False`, AGENTPULSE_ENABLED or
    OTEL_SDK_DISABLED), it exports nothing and reports success, and an `AgentPulseSpanProcessor` in
    front of it queues nothing. An AGENTPULSE_ variable that can't be used also switches it off;
    this is logged once.

    Args:
        api_key: The `ap_…` key; by default `AGENTPULSE_API_KEY`. At an endpoint on this machine,
            the key of a local server of this user is tried first; it is found by itself.
        endpoint: Where events go; by default `AGENTPULSE_ENDPOINT`, else the hosted API.
        agent_name: The name they appear under; by default `AGENTPULSE_AGENT`, else the host name.
        capture_messages: Whether messages, tool arguments and results and texts of errors that
            the spans carry are sent; by default `AGENTPULSE_CAPTURE_MESSAGES`, else not.
        prices: Your own prices, as a mapping or the path of a JSON file; by default
            `AGENTPULSE_PRICES`. `calculate_cost` uses them, too, until `shutdown`.
        max_batch_size: Events in one request; by default `AGENTPULSE_MAX_BATCH_SIZE`, else 100.
        redact: Is given each captured text (message, tool argument or result, text of an error) on
            the sending thread, and returns the text that is sent instead. If it raises or doesn't
            return a text, the event is dropped, and counted as `redaction_failed`.
        allow_insecure: Whether plain http to another machine is allowed.
        export_all_spans: Whether spans that have nothing to do with agents are sent too.
        enabled: Whether it does anything; by default `AGENTPULSE_ENABLED`, else it does.

    Raises:
        ConfigurationError: One of these arguments can't be used (a ValueError).
    """

    def __init__(
        self,
        api_key: str | ApiKey | None = None,
        endpoint: str | None = None,
        agent_name: str | None = None,
        *,
        capture_messages: bool | None = None,
        prices: Mapping[str, object] | str | Path | None = None,
        max_batch_size: int | None = None,
        redact: Callable[[str], str] | None = None,
        allow_insecure: bool | None = None,
        export_all_spans: bool | None = None,
        enabled: bool | None = None,
    ) -> None:
        # From here on no traceback that shows local variables has the key.
        api_key = ApiKey.of(api_key)
        given = {name: value for name, value in locals().items() if name in ROWS}
        self.sender: _Sender = _Sender(resolve(given))
        """For our own processor."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends the spans that concern agents. Never raises.

        Returns:
            FAILURE if a span was lost; after `shutdown`, every span is. These don't count as lost:
            spans kept because the receiver asked for them later or is away, spans that another
            AgentPulse exporter sends, and spans that end while AgentPulse is switched off.
        """
        sender, counters = self.sender, self.sender.counters
        if not sender.is_on:
            return SpanExportResult.SUCCESS
        is_of_another = sender.owner.is_of_another
        spans = [span for span in spans if sender.takes(span) and not is_of_another(span)]
        lost = counters.lost()
        counters.ended.add(len(spans))
        if sender.is_closed:
            counters.dropped(AFTER_SHUTDOWN, len(spans))
        else:
            sender.send(spans)
        has_lost = sender.is_closed or counters.lost() != lost
        return SpanExportResult.FAILURE if has_lost else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Sends the events that were kept for later, unless the receiver still wants nothing.

        Returns:
            Whether everything was sent, and every loss was reported by an earlier flush.
        """
        return self.sender.flush(bounded(timeout_millis, per_second=1000))

    def shutdown(self) -> None:
        """Sends the rest, within 5 seconds, and closes the connection. Twice is fine."""
        if not self.sender.is_closed:
            self.sender.hurry()
            self.sender.send(())
            self.sender.close()

    def stats(self) -> Stats:
        """The counts of spans so far: ended, accepted, dropped by reason, queued."""
        return self.sender.counters.stats()


class _Sender:
    """What the exporter does for itself and for our own processor, which counts ended spans."""

    def __init__(self, settings: Settings) -> None:
        self.export_all_spans: bool = settings.export_all_spans
        self.is_on: bool = is_on(settings)
        """False if it was switched off when it was made, or by a mistake in the environment."""
        if self.is_on and not settings.may_send:
            _logger.warning(
                "Nothing is sent to AgentPulse: there is no API key; set AGENTPULSE_API_KEY."
            )
        self.counters: Counters = Counters()
        self.owner: Owner = Owner((settings.address, settings.api_key), is_on=self.is_on)
        overrides = PriceOverrides.load(settings.prices)
        if self.is_on:
            use(self, overrides)
        self._make_mapper = lambda: Mapper(
            settings.capture_messages, overrides, self.counters.unpriced, redact=settings.redact
        )
        self._make_packer = partial(Packer, settings.max_batch_size)
        proxy = proxy_for(settings.address) if self.is_on else None
        keys = known_keys(settings.address, settings.api_key)
        self._transport = Transport(settings.address, proxy, keys)
        self.delivery: Delivery = Delivery(settings, self._transport, self.counters)
        self._may_send = settings.may_send
        self.is_closed: bool = False
        self.start_over()
        after_fork(self.start_over)
        self.pause: Callable[[], float] = self.delivery.pause
        self.look_again: Callable[[], None] = self.delivery.look_again
        self.finish_by: Callable[[float], None] = self.delivery.finish_by
        self.abort: Callable[[], None] = self._transport.abort
        self.belong_to_this_thread: Callable[[], None] = self._transport.belong_to_this_thread
        at_exit(self.hurry)

    def flush(self, seconds: float) -> bool:
        """Sends the kept events; returns as `force_flush` does."""
        if not acquire(self._sending, seconds):
            return False
        self._sending.release()
        reported = self._reported
        self.delivery.look_again()
        self.send(())
        lost = self._reported = self.counters.lost()
        return lost == reported and not self.has_kept

    def announce(self, span: ReadableSpan) -> None:
        """Notes a span that starts."""
        origins.begun(span)
        self._mapper.ledger.announce(span)
        self.takes(span)

    def takes(self, span: ReadableSpan) -> bool:
        """Returns whether the span will be sent, by what is known of it so far.

        If not, records that, so that its children get its parent instead.
        """
        is_sent = self.export_all_spans or is_genai_span(span)
        (self._mapper.tree.include if is_sent else self._mapper.tree.leave_out)(span)
        return is_sent

    @property
    def has_kept(self) -> bool:
        """Whether events wait here: the receiver wants them later, or they don't fill a request."""
        return bool(self._kept) or self._packer.has_begun

    @property
    def has_put_off(self) -> bool:
        """Whether some of the kept events were tried and could not be sent so far."""
        return bool(self._kept)

    def send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool = False) -> None:
        """Sends spans that are counted already, and the events kept before them. Never raises.

        With `leaves_rest`, events that don't fill a request wait for the next spans.
        """
        acquire(self._sending)
        token = context_api.attach(context_api.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            self._send(spans, leaves_rest=leaves_rest)
        finally:
            context_api.detach(token)
            self._sending.release()
        # At the end, losses are logged at once, in one line.
        if not self.delivery.is_ending:
            self.counters.log_losses()

    def end(self) -> None:
        """The connection stays until `close`."""

    def close(self) -> None:
        """Counts the rest as lost, and closes the connection."""
        self.is_closed = True
        self.owner.stop()
        use(self, None)
        self.counters.abandon(self.delivery.absence or "shutdown")
        self.counters.log_losses(at_end=True)
        self._kept.clear()
        self._packer = self._make_packer()
        # A thread that is still in the middle of a request closes the connection when it ends.
        if self._sending.acquire(blocking=False):
            self._transport.close()
            self._sending.release()

    def start_over(self) -> None:
        """Makes this the exporter of a child process: the parent keeps its spans and its socket."""
        self._sending = threading.Lock()
        self._kept: deque[Batch] = deque()
        self._packer = self._make_packer()
        self._mapper = self._make_mapper()
        self._reported = 0
        """Losses that a flush has reported."""
        self.counters.reset()
        self._transport.forget()
        self.delivery.start_over()

    def hurry(self) -> None:
        """Sets the deadline of the end, also for a request that another thread waits for.

        At exit this runs before the provider shuts its processors down, because processors of
        other vendors wait for as long as an export takes.
        """
        self.finish_by(time.monotonic() + SHUTDOWN_TIMEOUT)
        if acquire(self._sending, ATTEMPT_AT_EXIT):
            self._sending.release()
        else:
            self.abort()

    def _send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool) -> None:
        try:
            events = without_superseded(self._events(spans))
            before = len(self._kept)
            self._kept.extend(self._packer.full(events))
            if not leaves_rest or len(self._kept) == before:
                self._kept.extend(self._packer.rest())
            while self._kept:
                batch = self._kept.popleft()
                try:
                    kept = self.delivery.deliver(batch)
                except BaseException as error:  # noqa: BLE001  # the batch is counted
                    _logger.debug("A batch could not be delivered: %s", type(error).__name__)
                    self.counters.dropped("internal_error", batch.spans)
                    continue
                if kept:
                    self._kept.extendleft(reversed(kept))
                    break
            while len(self._kept) > 1 and (reason := self._excess()):
                self.counters.dropped(reason, self._kept.popleft().spans)
        except BaseException as error:  # noqa: BLE001  # an exporter that raises ends its thread
            _logger.debug("Spans could not be sent: %s", type(error).__name__)

    def _events(self, spans: Sequence[ReadableSpan]) -> Iterator[Event]:
        if not self._may_send:
            self.counters.dropped(NO_KEY, len(spans))
            return
        self._mapper.expect(spans)
        for span in spans:
            events: Sequence[Event] = ()
            reason = "too_large"
            try:
                if is_cut_short(span):
                    reason = "attribute_limits"
                else:
                    events = self._mapper.events(span)
            except Exception as error:  # noqa: BLE001  # one odd span takes no others with it
                _logger.debug("A span could not be mapped: %s", type(error).__name__)
                is_unsafe = isinstance(error, RedactionFailed)
                reason = "redaction_failed" if is_unsafe else "unmappable"
            if not events:
                self.counters.dropped(reason)
            yield from events

    def _excess(self) -> str:
        """The reason for which the oldest kept batch must be dropped; empty if it may stay."""
        if sum(batch.spans for batch in self._kept) > MOST_KEPT:
            return "queue_full"
        return "memory_full" if sum(batch.size for batch in self._kept) > MOST_BYTES_KEPT else ""
