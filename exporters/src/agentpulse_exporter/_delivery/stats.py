"""The queue's spans, and the counts: each span is accepted, queued, or dropped for a reason.

The queue is bounded in number and in memory: the oldest spans give way to the newest.
"""

from __future__ import annotations

import itertools
import logging
import operator
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from opentelemetry.sdk.trace import Event, ReadableSpan

_logger = logging.getLogger("agentpulse.exporter")

MOST_TEXT = 32 * 2**20
"""Bytes, at most, that queued spans take beyond an ordinary span (`text_of`)."""
MOST_TEXT_AT_ONCE = 4 * 2**20
"""Bytes that are taken from the queue at once, in addition to `MOST_TEXT`."""
_BYTES_OF_AN_ITEM = 32
"""Bytes of an item of a list or a mapping, without its texts."""
_BYTES_OF_AN_ATTRIBUTE = 128
_BYTES_OF_AN_EVENT = 640
"""Bytes of a span event or a link."""
_ORDINARY_ATTRIBUTES = 24
"""The number of attributes of an ordinary span."""
_SECONDS_BETWEEN_LINES = 60.0
_MODELS_COUNTED = 1000
NO_KEY, AFTER_SHUTDOWN = "no_key", "after_shutdown"
_IN_QUEUE = ("queue_full", "memory_full", AFTER_SHUTDOWN)
"""The reasons for which spans are dropped on the threads of the program."""
ADVICE = {
    "unreachable": "check AGENTPULSE_ENDPOINT and the network",
    "not_an_ingest_api": "it answers with a page; check AGENTPULSE_ENDPOINT",
    "tls": "its certificate can't be verified; check AGENTPULSE_ENDPOINT and SSL_CERT_FILE",
    "unauthorized": "check AGENTPULSE_API_KEY (a local server names the file with the key that it "
    "accepts)",
    "queue_full": "raise AGENTPULSE_MAX_QUEUE_SIZE or lower AGENTPULSE_FLUSH_INTERVAL",
    "attribute_limits": "raise OpenTelemetry's limits of attributes (`agentpulse status`)",
}
"""The advice to a user, by the reason of a loss or of a receiver's silence."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The counts of spans; `ended = accepted + sum(dropped) + queued` when nothing moves.

    Attributes:
        ended: What was queued: ended spans of GenAI and of AgentPulse, the early copies of
            sessions, cron runs and agents, and events such as heartbeats.
        accepted: Spans whose event the receiver accepted.
        queued: Spans that wait or are being sent.
        dropped: Spans that are lost, by reason.
        requests: HTTP requests made.
        retries: Requests that were made again after a failure.
        unpriced: Calls that used tokens of a model without a known price, by model.
        elsewhere: The same for the other exporters, by destination: that of `otlp_endpoint`, and
            those that OTEL_TRACES_EXPORTER names beside ours, which get every span, from the start
            of the program until its end. Requests, retries and models are not counted there.
        not_recorded: Libraries that are installed and that `agentpulse.init` could not patch, with
            the version and the reason. Exporters and processors by themselves patch none.
    """

    ended: int = 0
    accepted: int = 0
    queued: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    requests: int = 0
    retries: int = 0
    unpriced: Mapping[str, int] = field(default_factory=dict[str, int])
    elsewhere: Mapping[str, Stats] = field(default_factory=dict[str, "Stats"])
    not_recorded: Mapping[str, str] = field(default_factory=dict[str, str])


def number_of_spans(number: int) -> str:
    """How many spans, in words for the log."""
    return "1 span" if number == 1 else f"{number} spans"


class Tally:
    """Counts one by one, without a lock, from any thread, signal handler or finalizer."""

    def __init__(self) -> None:
        # Taking the next one is a step of C code that nothing interrupts, and the rest is counted
        # without a lock that a signal handler could wait for in vain.
        self._left = itertools.repeat(None, sys.maxsize)
        self.add_one: Callable[[], None] = self._left.__next__

    def add(self, number: int) -> None:
        """Counts so many more."""
        for _ in range(number):
            self.add_one()

    def value(self) -> int:
        """How many were counted."""
        return sys.maxsize - operator.length_hint(self._left)


class Counters:
    """The counts of one exporter and of the processor in front of it."""

    def __init__(self, destination: str = "AgentPulse") -> None:
        """`destination` is the name of the receiver in the log."""
        self._destination = destination
        self.reset()

    def reset(self) -> None:
        """Starts from zero, as a child process does."""
        self.ended: Tally = Tally()
        self._accepted, self._requests, self._retries = Tally(), Tally(), Tally()
        self._dropped: dict[str, Tally] = {}
        self._unpriced: dict[str, Tally] = {}
        self._is_final = False
        self._logged = 0
        self._advised: set[str] = set()
        """The reasons for whose losses the advice was logged."""
        self._logged_at = -_SECONDS_BETWEEN_LINES

    def accepted(self, spans: int) -> None:
        """Counts spans whose events the receiver accepted."""
        if not self._is_final:
            self._accepted.add(spans)

    def dropped(self, reason: str, spans: int = 1) -> None:
        """Counts spans as dropped for this reason."""
        if not self._is_final or reason == AFTER_SHUTDOWN:
            (self._dropped.get(reason) or self._dropped.setdefault(reason, Tally())).add(spans)

    def requested(self, *, again: bool = False) -> None:
        """Counts a request; with `again`, also as a retry."""
        self._requests.add_one()
        self._retries.add(again)

    def unpriced(self, model: str) -> None:
        """Counts a call that used tokens of a model without a known price; logs a new model."""
        # Models are texts of other people's making; their number has to end somewhere.
        is_known = model in self._unpriced or len(self._unpriced) < _MODELS_COUNTED
        name = model if is_known else "others"
        if name not in self._unpriced:
            _logger.warning(
                "No price is known of the model %r, so the cost of its calls is unknown. "
                "AGENTPULSE_PRICES sets your own; `agentpulse costs` lists the models.",
                name,
            )
        self._unpriced.setdefault(name, Tally()).add_one()

    def abandon(self, reason: str = "shutdown") -> None:
        """Counts all queued spans as dropped for this reason; later outcomes don't count."""
        self._is_final = True
        self._dropped.setdefault(reason, Tally()).add(self.stats().queued)

    def lost(self, *, in_queue: bool = True) -> int:
        """The number of dropped spans; without `in_queue`, not those dropped in the queue."""
        dropped = self.stats().dropped.items()
        return sum(spans for reason, spans in dropped if in_queue or reason not in _IN_QUEUE)

    def stats(self) -> Stats:
        """All counts as they are now."""
        dropped, accepted = _values(self._dropped), self._accepted.value()
        # Read last: all that is counted above has ended by then.
        ended = self.ended.value()
        return Stats(
            ended=ended,
            accepted=accepted,
            queued=max(ended - accepted - sum(dropped.values()), 0),
            dropped=dropped,
            requests=self._requests.value(),
            retries=self._retries.value(),
            unpriced=_values(self._unpriced),
        )

    def log_losses(self, *, because: str = "", at_end: bool = False) -> None:
        """Logs the losses since the last time; at most once a minute, and at the end.

        `because` is the latest failure, in a word.
        """
        dropped, now = dict(self.stats().dropped), time.monotonic()
        dropped.pop(NO_KEY, None)  # that was logged as the exporter was made
        new = sum(dropped.values()) - self._logged
        if new <= 0 or (now - self._logged_at < _SECONDS_BETWEEN_LINES and not at_end):
            return
        self._logged, self._logged_at = self._logged + new, now
        counts = ", ".join(f"{reason}: {spans}" for reason, spans in sorted(dropped.items()))
        known = [because] if because else []
        known += [ADVICE[reason] for reason in ADVICE if reason in dropped.keys() - self._advised]
        self._advised |= dropped.keys()
        _logger.warning(
            "%s did not reach %s (in all %s)%s",
            number_of_spans(new),
            self._destination,
            counts,
            "".join(f"; {text}" for text in known),
        )


def _values(tallies: dict[str, Tally]) -> dict[str, int]:
    """The counts that aren't zero."""
    # From a copy (one step of C code), because other threads may count meanwhile.
    return {name: value for name, each in tallies.copy().items() if (value := each.value())}


class Waiting:
    """The bounded queue. Any thread may add spans; a single thread takes them."""

    def __init__(self, most: int, dropped: Callable[[str], object]) -> None:
        """`most` spans wait, at most; `dropped` is called with the reason for each dropped one."""
        self._most = most
        self._dropped = dropped
        # Reentrant, because a finalizer or a signal handler may end a span on the thread that is
        # just ending one.
        self._lock = threading.RLock()
        self._spans: deque[tuple[ReadableSpan, int]] = deque()
        self._text = 0
        self.entered = 0
        """The number of spans that were ever added."""
        self.left = 0
        """The number of spans that were taken or dropped. At n, the first n added have left."""

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: ReadableSpan) -> int:
        """Adds a span and returns how many are queued."""
        text = text_of(span)
        with self._lock:
            self._spans.append((span, text))
            self.entered += 1
            self._text += text
            while len(self._spans) > self._most:
                self._drop_oldest("queue_full")
            while self._text > MOST_TEXT and len(self._spans) > 1:
                self._drop_oldest("memory_full")
            return len(self._spans)

    def take(self, most: int) -> list[ReadableSpan]:
        """Removes and returns the oldest spans, in order: at least one, up to the limits."""
        taken: list[ReadableSpan] = []
        with self._lock:
            least = self._text - MOST_TEXT_AT_ONCE
            # A finalizer that ends a span meanwhile may drop some of those that are still queued.
            while len(taken) < most and self._spans and (not taken or self._text > least):
                taken.append(self._leave())
        return taken

    def _drop_oldest(self, reason: str) -> None:
        self._leave()
        self._dropped(reason)

    def _leave(self) -> ReadableSpan:
        span, text = self._spans.popleft()
        self.left += 1
        self._text -= text
        return span


def text_of(span: ReadableSpan) -> int:
    """Estimates a span's extra bytes: its strings, its events and links, and unusual attributes.

    Attributes are unusual if they are unusually many. Never raises: a foreign class of span that
    can't be measured counts as 0.
    """
    try:
        size = _of_value(span.name) + _of_value(span.status.description)
        for part in (*span.events, *span.links):
            name = part.name if isinstance(part, Event) else ""
            size += _BYTES_OF_AN_EVENT + _of_value(name) + _of_attributes(part.attributes)
        return size + _of_attributes(span.attributes)
    except Exception:  # noqa: BLE001  # a span that ends is none of the program's concern
        return 0


def _of_attributes(attributes: Mapping[str, object] | None) -> int:
    if not attributes:
        return 0
    size = _BYTES_OF_AN_ATTRIBUTE * max(len(attributes) - _ORDINARY_ATTRIBUTES, 0)
    for name, value in attributes.items():
        size += len(name)
        if isinstance(value, str) and value.isascii():
            size += len(value)
        elif not isinstance(value, int | float):
            size += _of_value(value)
    return size


def _of_value(value: object) -> int:
    if isinstance(value, str):
        # Beyond ASCII, Python keeps up to four bytes a character.
        return len(value) if value.isascii() else sys.getsizeof(value)
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, Mapping):
        items = itertools.chain.from_iterable(cast("Mapping[object, object]", value).items())
    elif isinstance(value, tuple | list):
        items = cast("list[object]", value)
    else:
        return 0
    return sum(_BYTES_OF_AN_ITEM + _of_value(item) for item in items)
