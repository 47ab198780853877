"""`AgentPulseSpanExporter`: spans in, events at the receiver, or a reason why not.

It works behind any span processor. What the receiver asks to keep for later (`Retry-After`) stays
here and goes out with the next spans.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from opentelemetry import context as context_api
from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,  # pyright: ignore[reportPrivateUsage]  # every exporter needs it
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentpulse_exporter._delivery.http import Transport, proxy_for
from agentpulse_exporter._delivery.process import at_exit
from agentpulse_exporter._delivery.stats import Counters, Stats
from agentpulse_exporter._delivery.upload import ATTEMPT_AT_EXIT, Delivery
from agentpulse_exporter._delivery.waits import Turn, bounded
from agentpulse_exporter._dialects.normalize import concerns_agents
from agentpulse_exporter._ledger.ownership import Claimant, origins
from agentpulse_exporter._wire.batches import Batch, Packer, without_superseded
from agentpulse_exporter._wire.event import Event
from agentpulse_exporter._wire.events import Mapper, is_cut_short
from agentpulse_exporter._wire.redaction import RedactionFailed
from agentpulse_exporter.settings import ApiKey, resolve

_logger = logging.getLogger("agentpulse.exporter")

MOST_KEPT = 10_000
"""Spans that are kept while the receiver wants nothing or is away; the oldest go first."""
MOST_BYTES_KEPT = 32 * 2**20
"""Bytes that these take, as JSON and as what it is made of."""
SHUTDOWN_TIMEOUT = 5.0


class AgentPulseSpanExporter(SpanExporter):
    """Prices spans of LLM calls and agents, and uploads them to AgentPulse.

    Without a key, nothing is sent, except to an endpoint on this machine. While a processor of
    ours on the same provider, that of `agentpulse.init` for example, sends to the same endpoint
    with the same key, this one leaves to it what it tells of.

    Switched off when it is made, by `enabled=False`, AGENTPULSE_ENABLED or OTEL_SDK_DISABLED, it
    exports nothing, which is no failure, and a processor of ours in front of it queues nothing.

    Args:
        api_key: The `ap_…` key; by default `AGENTPULSE_API_KEY`. At an endpoint on this machine,
            the key of a local server of this user is tried first; it is found by itself.
        endpoint: Where events go; by default `AGENTPULSE_ENDPOINT`, else the hosted API.
        agent_name: The name they appear under; by default `AGENTPULSE_AGENT`, else the host name.
        capture_messages: Whether messages, tool arguments and results and texts of errors that
            the spans carry are sent; by default `AGENTPULSE_CAPTURE_MESSAGES`, else not.
        prices: Your own prices, as a mapping or the path of a JSON file; by default
            `AGENTPULSE_PRICES`.
        max_batch_size: Events in one request; by default `AGENTPULSE_MAX_BATCH_SIZE`, else 100.
        redact: Is given each captured text (message, tool argument or result, text of an error) on
            the sending thread, and returns what is sent instead of it. Where it raises, or returns
            no text, the event is dropped, and counted as `redaction_failed`.
        allow_insecure: Whether plain http to another machine is allowed.
        export_all_spans: Whether spans that have nothing to do with agents are sent too.
        enabled: Whether it does anything; by default as `AGENTPULSE_ENABLED` says, else it does.

    Raises:
        ConfigurationError: One of these, or of the variables, can't be used (a ValueError).
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
        settings = self._settings = resolve(
            api_key=api_key,
            endpoint=endpoint,
            agent_name=agent_name,
            capture_messages=capture_messages,
            prices=prices,
            max_batch_size=max_batch_size,
            allow_insecure=allow_insecure,
            export_all_spans=export_all_spans,
            enabled=enabled,
        )
        if settings.enabled and not settings.may_send:
            _logger.warning(
                "Nothing is sent to AgentPulse: there is no API key; set AGENTPULSE_API_KEY."
            )
        self.counters = Counters()
        self.claimant = Claimant(settings)
        self._mapper = Mapper(
            settings.capture_messages, settings.overrides, self.counters.unpriced, redact=redact
        )
        proxy = proxy_for(settings.endpoint) if settings.enabled else None
        self._transport = Transport(settings.endpoint, proxy)
        self.delivery = Delivery(settings, self._transport, self.counters)
        self._packer = Packer(settings.max_batch_size)
        self._kept: deque[Batch] = deque()
        self._sending = Turn()
        self._is_shut_down = False
        self._has_own_thread = False
        self._reported = 0
        """Losses that a flush has reported."""
        _renewed_in_children(self)
        at_exit(self._hurry)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends the spans that concern agents. Never raises.

        Returns:
            FAILURE where one of them was lost, as after `shutdown`. What is kept, because the
            receiver asked to send it later or is away, or another one of ours sends, is no loss;
            nor is what comes while AgentPulse is switched off.
        """
        if not self.is_on:
            return SpanExportResult.SUCCESS
        spans = [span for span in spans if self.takes(span)]
        spans = [span for span in spans if not self.claimant.is_claimed_by_another(span)]
        for _ in spans:
            self.counters.ended.add()
        if self._is_shut_down:
            for _ in spans:
                self.counters.overflow("after_shutdown")
            return SpanExportResult.FAILURE
        lost = self.counters.lost()
        self.send(spans)
        return (
            SpanExportResult.SUCCESS if self.counters.lost() == lost else SpanExportResult.FAILURE
        )

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Sends what was kept for later, unless the receiver still wants nothing.

        Returns:
            Whether nothing is left, and nothing was lost that no flush has reported so far.
        """
        if not self._sending.take(bounded(timeout_millis) / 1000):
            return False
        self._sending.give()
        reported = self._reported
        self.delivery.look_again()
        self.send(())
        lost = self._reported = self.counters.lost()
        return lost == reported and not self.has_kept

    def shutdown(self) -> None:
        """Sends what is left, within 5 seconds, and closes the connection. Twice is fine."""
        if self._is_shut_down:
            return
        self._hurry()
        self.send(())
        self.close()

    def stats(self) -> Stats:
        """What became of the spans so far."""
        return self.counters.stats()

    @property
    def is_on(self) -> bool:
        """Whether it was not switched off when it was made."""
        return self._settings.enabled

    # What follows is for our own processor, which counts what ended by itself.

    def announce(self, span: ReadableSpan, *, travels: bool) -> None:
        """Is told of each span that starts, and whether it is one that will be sent."""
        origins.begun(span)
        self._mapper.ledger.announce(span)
        if not travels:
            self._mapper.ancestry.pass_over(span)

    def takes(self, span: ReadableSpan) -> bool:
        """Whether a span that ended is to be sent; one that isn't is passed over as a parent."""
        if self._settings.export_all_spans or concerns_agents(span):
            self._mapper.ancestry.travels(span)
            return True
        self._mapper.ancestry.pass_over(span)
        return False

    def log_absence(self) -> None:
        """Logs, once, that the receiver has been away for a while."""
        if self.delivery.absence is not None:
            self.delivery.log_absence(self.stats().queued)

    @property
    def has_kept(self) -> bool:
        """Whether events wait here, for a receiver that wants them later or for a full request."""
        return bool(self._kept) or self._packer.has_begun

    @property
    def has_put_off(self) -> bool:
        """Whether some of that could not be sent so far."""
        return bool(self._kept)

    @property
    def gave_up(self) -> bool:
        """Whether nothing more is sent, because the end came and the receiver is dead."""
        return self.delivery.gave_up

    def belong_to_this_thread(self) -> None:
        """Waits from now on as this thread does, in which everything is sent."""
        self._has_own_thread = True
        self._transport.belong_to_this_thread()

    def pause(self) -> float:
        """Seconds for which nothing is sent, as the receiver asks, or because it is away."""
        return self.delivery.pause()

    def look_again(self) -> None:
        """Ends the pause where the receiver was away, for somebody waits for the outcome."""
        self.delivery.look_again()

    def send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool = False) -> None:
        """Sends spans that are counted already, and what was kept before them. Never raises.

        With `leaves_rest`, what is left beside full requests goes first into the next one.
        """
        token = context_api.attach(context_api.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            with self._sending:
                if not self._has_own_thread and self._transport.primitives.are_outdated:
                    self._transport.belong_to_this_thread()
                self._send(spans, leaves_rest=leaves_rest)
        finally:
            context_api.detach(token)
        # At the end, what is lost is told at once, in one line.
        if not self.delivery.hurry.is_set():
            self.counters.say_losses()
            self.log_absence()

    def finish_by(self, deadline: float) -> None:
        """Hurries: short tries, and none after one that failed. `deadline` is monotonic."""
        self.delivery.finish_by(deadline)

    def abort(self) -> None:
        """Ends the request that another thread waits for."""
        self._transport.abort()

    def close(self) -> None:
        """Counts what is left as lost, and closes the connection."""
        self._is_shut_down = True
        self.claimant.leave()
        absence = self.delivery.absence
        self.counters.abandon("shutdown" if absence is None else absence.reason)
        self.counters.say_losses(at_end=True)
        self._kept.clear()
        self._packer = Packer(self._settings.max_batch_size)
        # A thread that is still in the middle of a request closes the connection when it ends.
        if self._sending.take(0):
            self._transport.close()
            self._sending.give()

    def start_over(self) -> None:
        """Makes this the exporter of a child process: the parent's spans and socket are its own."""
        self._sending = Turn()
        self._kept = deque()
        self._packer = Packer(self._settings.max_batch_size)
        self._mapper.sessions.clear()
        self._mapper.ledger.clear()
        self._mapper.ancestry.clear()
        self.counters.reset()
        self._has_own_thread = False
        self._reported = 0
        self._transport.forget()
        self.delivery.start_over()

    def _hurry(self) -> None:
        """The end has come, also for a request that another thread waits for.

        At exit this comes before the provider shuts its processors down, of which those of others
        wait for as long as an export takes.
        """
        self.finish_by(time.monotonic() + SHUTDOWN_TIMEOUT)
        if self._sending.take(ATTEMPT_AT_EXIT):
            self._sending.give()
        else:
            self.abort()

    def _send(self, spans: Sequence[ReadableSpan], *, leaves_rest: bool) -> None:
        try:
            events = without_superseded(self._events(spans))
            kept = len(self._kept)
            self._kept.extend(self._packer.full(events))
            if not leaves_rest or len(self._kept) == kept:
                self._kept.extend(self._packer.rest())
            while self._kept:
                batch = self._kept.popleft()
                try:
                    left = self.delivery.deliver(batch)
                except BaseException as error:  # noqa: BLE001  # whatever it is, the batch is counted
                    _logger.debug("A batch could not be delivered: %s", type(error).__name__)
                    self.counters.dropped("internal_error", batch.spans)
                    continue
                if left:
                    self._kept.extendleft(reversed(left))
                    break
            self._keep_within_bounds()
        except BaseException as error:  # noqa: BLE001  # an exporter that raises ends its thread
            _logger.debug("Spans could not be sent: %s", type(error).__name__)

    def _events(self, spans: Sequence[ReadableSpan]) -> Iterator[Event]:
        if not self._settings.may_send:
            self.counters.dropped("no_key", len(spans))
            self.counters.told(len(spans))
            return
        self._mapper.expect(spans)
        for span in spans:
            try:
                if is_cut_short(span):
                    self.counters.dropped("attribute_limits")
                    continue
                events = self._mapper.events(span)
            except RedactionFailed as error:
                _logger.debug("A text could not be redacted: %s", error)
                self.counters.dropped("redaction_failed")
                continue
            except Exception as error:  # noqa: BLE001  # one odd span takes no others with it
                _logger.debug("A span could not be mapped: %s", type(error).__name__)
                self.counters.dropped("unmappable")
                continue
            if not events:
                self.counters.dropped("too_large")
            yield from events

    def _keep_within_bounds(self) -> None:
        spans, size = 0, 0
        for batch in self._kept:
            spans, size = spans + batch.spans, size + batch.size
        while len(self._kept) > 1 and (spans > MOST_KEPT or size > MOST_BYTES_KEPT):
            oldest = self._kept.popleft()
            reason = "queue_full" if spans > MOST_KEPT else "memory_full"
            spans, size = spans - oldest.spans, size - oldest.size
            self.counters.dropped(reason, oldest.spans)


def _renewed_in_children(exporter: AgentPulseSpanExporter) -> None:
    if hasattr(os, "register_at_fork"):
        weak = weakref.ref(exporter)

        def renew() -> None:
            alive = weak()
            if alive is not None:
                alive.start_over()

        os.register_at_fork(after_in_child=renew)
