"""The counts of spans: every one that ended is accepted, queued, or dropped for a reason."""

from __future__ import annotations

import itertools
import logging
import operator
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

_logger = logging.getLogger("agentpulse.exporter")

_SECONDS_BETWEEN_LINES = 60.0
_MODELS_COUNTED = 1000
ADVICE = {
    "unreachable": "check AGENTPULSE_ENDPOINT and the network",
    "not_an_ingest_api": "it answers with a page; check AGENTPULSE_ENDPOINT",
    "tls": "its certificate can't be verified; check AGENTPULSE_ENDPOINT and SSL_CERT_FILE",
    "queue_full": "raise AGENTPULSE_MAX_QUEUE_SIZE or lower AGENTPULSE_FLUSH_INTERVAL",
    "attribute_limits": "raise OpenTelemetry's limits of attributes (`agentpulse status`)",
}
"""The advice to a user, by the reason of a loss or of a receiver's silence."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The counts of spans; `ended = accepted + sum(dropped) + queued` when nothing moves.

    Attributes:
        ended: Spans that ended and concern agents.
        accepted: Those whose event the receiver accepted.
        queued: Those that wait or are on their way.
        dropped: Those that are lost, by reason.
        requests: HTTP requests made.
        retries: Those of them made again after a failure.
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

    def add(self) -> None:
        """Counts one more."""
        next(self._left)

    def value(self) -> int:
        """How many were counted."""
        return sys.maxsize - operator.length_hint(self._left)


class Counters:
    """The counts of one exporter and of the processor in front of it."""

    _CALLERS_REASONS = ("queue_full", "memory_full", "after_shutdown")

    def __init__(self, destination: str = "AgentPulse") -> None:
        """`destination` is the name of the receiver in the log."""
        self._destination = destination
        self.reset()

    def reset(self) -> None:
        """Starts from zero, as a child process does."""
        self.ended: Tally = Tally()
        # Spans that are dropped on the threads of callers are counted without a lock.
        self._overflow = {reason: Tally() for reason in self._CALLERS_REASONS}
        # Reentrant, for a signal handler may read while its own thread does.
        self._lock = threading.RLock()
        self._frozen = False
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._unpriced: Counter[str] = Counter()
        self._logged = 0
        self._logged_at = -_SECONDS_BETWEEN_LINES

    def overflow(self, reason: str) -> None:
        """One span was dropped on its way into the queue."""
        self._overflow[reason].add()

    @property
    def accepted_spans(self) -> int:
        """How many were accepted so far."""
        return self._counts["accepted"]

    def accepted(self, spans: int) -> None:
        """The receiver accepted the events of so many spans."""
        with self._lock:
            if not self._frozen:
                self._counts["accepted"] += spans

    def dropped(self, reason: str, spans: int = 1) -> None:
        """So many spans are lost."""
        with self._lock:
            if spans and not self._frozen:
                self._dropped[reason] += spans

    def requested(self, *, again: bool = False) -> None:
        """A request is made, or made again."""
        with self._lock:
            self._counts["requests"] += 1
            self._counts["retries"] += again

    def unpriced(self, model: str) -> None:
        """A call used tokens of a model without a known price."""
        with self._lock:
            # Models are texts of other people's making; their number has to end somewhere.
            known = model in self._unpriced or len(self._unpriced) < _MODELS_COUNTED
            name = model if known else "others"
            self._unpriced[name] += 1
            is_new = self._unpriced[name] == 1
        if is_new:
            _logger.warning(
                "No price is known of the model %r, so the cost of its calls is unknown. "
                "AGENTPULSE_PRICES sets your own; `agentpulse costs` lists the models.",
                name,
            )

    def abandon(self, reason: str = "shutdown") -> None:
        """Counts all that is unsettled as dropped for this reason, and nothing from then on."""
        unsettled = self.stats().queued
        with self._lock:
            self._frozen = True
            self._dropped[reason] += unsettled

    @property
    def lost_by_exporter(self) -> int:
        """How many were dropped after they had left the queue."""
        return self._dropped.total()

    def lost(self) -> int:
        """How many spans were dropped so far, for whatever reason."""
        return sum(self.stats().dropped.values())

    def stats(self) -> Stats:
        """All counts as they are now."""
        overflow = {reason: tally.value() for reason, tally in self._overflow.items()}
        with self._lock:
            dropped = Counter(self._dropped)
            dropped.update(overflow)
            # Read last: all that is counted above has ended by then.
            ended, accepted = self.ended.value(), self._counts["accepted"]
            return Stats(
                ended=ended,
                accepted=accepted,
                queued=max(ended - accepted - dropped.total(), 0),
                dropped={reason: spans for reason, spans in dropped.items() if spans},
                requests=self._counts["requests"],
                retries=self._counts["retries"],
                unpriced=dict(self._unpriced),
            )

    def logged(self, spans: int) -> None:
        """So many of the lost ones were logged with the reason, and need no second line."""
        self._logged += spans

    def log_losses(self, *, because: str = "", at_end: bool = False) -> None:
        """Logs the losses since the last time; at most once a minute, and at the end.

        `because` is the latest failure, in a word.
        """
        lost = self.lost()
        now = time.monotonic()
        is_soon = now - self._logged_at < _SECONDS_BETWEEN_LINES
        if lost <= self._logged or (is_soon and not at_end):
            return
        new, self._logged, self._logged_at = lost - self._logged, lost, now
        reasons = self.stats().dropped
        counts = ", ".join(f"{reason}: {spans}" for reason, spans in sorted(reasons.items()))
        known = [because] if because else []
        known += [ADVICE[reason] for reason in ADVICE if reason in reasons]
        advice = "".join(f"; {text}" for text in known)
        _logger.warning(
            "%s did not reach %s (in all %s)%s",
            number_of_spans(new),
            self._destination,
            counts,
            advice,
        )
