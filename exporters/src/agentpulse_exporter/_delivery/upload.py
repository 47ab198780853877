"""Gets batches to the receiver, or counts why not."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from agentpulse_exporter._delivery.answers import (
    PAUSE,
    Compression,
    Judgement,
    Verdict,
    gzipped,
    is_refusal,
    judge,
    refused_events,
)
from agentpulse_exporter._delivery.http import Answer, NoAnswerError, Transport
from agentpulse_exporter._delivery.local_key import Keys
from agentpulse_exporter._delivery.stats import ADVICE, Counters, number_of_spans
from agentpulse_exporter._delivery.waits import Flag
from agentpulse_exporter._wire.batches import Batch
from agentpulse_exporter.settings import Settings
from agentpulse_exporter.version import VERSION

_logger = logging.getLogger("agentpulse.exporter")

TRIES = 3
"""Of a batch that is refused."""
FIRST_WAIT = 0.5
"""Seconds before the second try; twice that before the third."""
FIRST_LOOK = 1.0
"""Seconds before the second look for a receiver that is away; twice that before each next one."""
LAST_LOOK = 60.0
TO_CONNECT = 5.0
"""Seconds that a new connection takes, at most."""
ATTEMPT = 30.0
"""Seconds that one try takes, at most. Long, for a receiver that stored a batch and was slow to
answer may count it again when it comes again."""
ATTEMPT_AT_EXIT = 2.0
_HALVINGS = 7
"""Of a batch in which a bad event is looked for; one that is all bad costs no more than these."""
_WORTH_TRIMMING = 2048
_SAID_AFTER = 10.0
"""Seconds that a receiver is away before that is logged."""


@dataclass(slots=True)
class Hold:
    """How long nothing is sent, and why."""

    until: float = 0.0
    reason: str = ""

    def seconds(self) -> float:
        """What is left of it."""
        return max(self.until - time.monotonic(), 0.0)


@dataclass(slots=True)
class Absence:
    """A receiver that gives no answer: since when, and how often it was looked for."""

    since: float
    """Of the monotonic clock."""
    reason: str
    looks: int = 0
    is_logged: bool = False

    @property
    def seconds(self) -> float:
        """How long it has been so."""
        return time.monotonic() - self.since

    def in_words(self) -> str:
        """Since when."""
        return time.strftime("%H:%M:%S", time.localtime(time.time() - self.seconds))


class Delivery:
    """Delivers one batch at a time, on whatever thread asks; not for several at once."""

    def __init__(self, settings: Settings, transport: Transport, counters: Counters) -> None:
        self._settings = settings
        self._keys = Keys(settings.endpoint, settings.api_key)
        self._transport = transport
        self._counters = counters
        self._random = random.SystemRandom()
        self._warned = False
        self.start_over()

    def start_over(self) -> None:
        """Forgets everything learnt of the receiver, as a child process does."""
        self.hold = Hold()
        self.hurry = Flag()
        self.gave_up = False
        self.absence: Absence | None = None
        self._deadline: float | None = None
        self._holds_in_a_row = 0
        self._compression = Compression()

    def finish_by(self, deadline: float) -> None:
        """From now on: one short try for each batch, no waiting, and none after one that failed.

        `deadline` is of the monotonic clock. Safe to call from any thread and from a signal
        handler.
        """
        self._deadline = deadline
        self.hurry.set()

    def pause(self) -> float:
        """Seconds for which nothing is sent. At the end, one look is due in any case."""
        is_last_look = self.hurry.is_set() and self.absence is not None
        return 0.0 if is_last_look else self.hold.seconds()

    def look_again(self) -> None:
        """Has the next batch tried at once where the receiver was away."""
        absence = self.absence
        if absence is not None:
            absence.looks = 0
            self.hold = Hold()

    def deliver(self, batch: Batch) -> list[Batch]:
        """Settles the batch with the counters. Returns what is to be kept for later."""
        waiting = [batch]
        halvings = 0
        while waiting:
            if self.pause() or self.gave_up:
                return waiting
            current = waiting.pop(0)
            begun = time.monotonic()
            judgement = self._try(current)
            if judgement.verdict is Verdict.AWAY:
                self._miss(judgement, begun)
                return [current, *waiting]
            self._come_back()
            if judgement.verdict is Verdict.HOLD:
                self._hold(judgement)
                return [current, *waiting]
            if judgement.verdict is Verdict.SPLIT and judgement.reason == "rejected":
                halvings += 1
                if halvings > _HALVINGS:
                    for each in (current, *waiting):
                        self._drop(each, judgement)
                    return []
            waiting = [*self._after(judgement, current), *waiting]
        return []

    def log_absence(self, queued: int) -> None:
        """Logs, once, that the receiver has been away for a while, and how many spans wait."""
        absence = self.absence
        if absence is None or absence.is_logged or absence.seconds < _SAID_AFTER:
            return
        if self.hurry.is_set():
            return
        absence.is_logged = True
        _logger.warning(
            "AgentPulse has not answered since %s (%s; %s): %s wait, and are sent when it does.",
            absence.in_words(),
            absence.reason,
            ADVICE.get(absence.reason, "it may be starting"),
            number_of_spans(queued),
        )

    def _miss(self, judgement: Judgement, begun: float) -> None:
        """The receiver is away: nothing is sent until the next look for it."""
        if self.hurry.is_set():
            # Nobody waits at exit to hear the same of every batch.
            self.gave_up = True
        absence = self.absence or Absence(begun, judgement.reason)
        absence.reason = judgement.reason
        wait = self._jittered(min(FIRST_LOOK * 2**absence.looks, LAST_LOOK))
        absence.looks = min(absence.looks + 1, 10)
        self.absence = absence
        self.hold = Hold(time.monotonic() + max(judgement.seconds, wait), judgement.reason)

    def _come_back(self) -> None:
        absence, self.absence = self.absence, None
        if absence is None:
            return
        self.hold = Hold()
        if absence.is_logged:
            _logger.warning(
                "AgentPulse answers again after %d seconds; what waited is on its way.",
                absence.seconds,
            )

    def _after(self, judgement: Judgement, batch: Batch) -> list[Batch]:
        """What is left to be sent of a batch after the last word on it."""
        if judgement.verdict is Verdict.ACCEPTED:
            self._holds_in_a_row = 0
            self._warned = False
            return []
        if judgement.verdict is Verdict.SPLIT:
            return self._smaller(batch, judgement)
        self._drop(batch, judgement)
        if judgement.verdict is Verdict.PAUSE:
            self.hold = Hold(time.monotonic() + judgement.seconds, judgement.reason)
            self._warn_of_pause(judgement, batch.spans)
        return []

    def _drop(self, batch: Batch, judgement: Judgement) -> None:
        self._counters.dropped(judgement.reason, batch.spans)

    def _smaller(self, batch: Batch, judgement: Judgement) -> list[Batch]:
        event, *others = batch.events
        if others:
            return list(batch.halves())
        trimmed = event.trimmed() if len(event.json) > _WORTH_TRIMMING else None
        if trimmed is not None:
            return [Batch((trimmed,))]
        self._drop(batch, judgement)
        return []

    def _hold(self, judgement: Judgement) -> None:
        # A receiver that says "at once" each time would be hammered otherwise.
        own = self._jittered(min(FIRST_WAIT * 2**self._holds_in_a_row, PAUSE))
        self._holds_in_a_row = min(self._holds_in_a_row + 1, 10)
        seconds = max(judgement.seconds, own)
        self.hold = Hold(time.monotonic() + seconds, judgement.reason)

    def _try(self, batch: Batch) -> Judgement:
        """Tries until there is a last word on the batch, or nobody to say it."""
        body = batch.body(self._settings.agent_name, VERSION)
        judgement = Judgement(Verdict.RETRY)
        for tried in range(TRIES):
            if tried and self._is_hurried(self._jittered(FIRST_WAIT * 2 ** (tried - 1))):
                break
            self._counters.requested(again=tried > 0)
            judgement = self._send(batch, body)
            if judgement.verdict is not Verdict.RETRY:
                return judgement
            if self.hurry.is_set():
                break
        # Nobody waits at exit to hear the same of every batch.
        self.gave_up = self.hurry.is_set()
        return judgement

    def _is_hurried(self, seconds: float) -> bool:
        return self.hurry.wait(seconds, self._transport.primitives.sleep)

    def _send(self, batch: Batch, body: bytes) -> Judgement:
        """One try: a request, or two where compression may be what the receiver can't read."""
        compression = self._compression
        compressed = compression.is_on()
        judgement, status, ended = self._request(batch, body, compressed=compressed)
        if compressed and judgement.verdict is Verdict.ACCEPTED:
            compression.accepted()
        elif compressed and (ended or is_refusal(status or 0)):
            if compression.is_in_doubt or judgement.verdict is Verdict.DROP:
                self._counters.requested(again=True)
                judgement, plain, _ = self._request(batch, body, compressed=False)
                compression.compare(status, plain)
            # Another receiver may have taken the place of the one that read it.
            compression.doubt()
        return judgement

    def _request(
        self, batch: Batch, body: bytes, *, compressed: bool
    ) -> tuple[Judgement, int | None, bool]:
        """What is to be done, the status that said so, and whether the receiver hung up on us."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"agentpulse-python/{VERSION}",
            "Idempotency-Key": batch.id,
        }
        if compressed:
            headers["Content-Encoding"] = "gzip"
            body = gzipped(body)
        tries = itertools.count()

        def post(authorization: Mapping[str, str]) -> Answer:
            if next(tries):
                self._counters.requested(again=True)
            seconds = ATTEMPT
            if self._deadline is not None:
                seconds = min(ATTEMPT_AT_EXIT, self._deadline - time.monotonic())
            return self._transport.post(
                body, {**headers, **authorization}, seconds=seconds, to_connect=TO_CONNECT
            )

        try:
            answer = self._keys.send(post)
        except NoAnswerError as error:
            _logger.debug("AgentPulse gave no answer: %s", error)
            return Judgement(Verdict.AWAY, error.reason), None, error.hung_up
        judgement = judge(answer)
        if judgement.verdict is Verdict.ACCEPTED:
            self._settle(batch, answer)
        else:
            _logger.debug("AgentPulse answered %d (%s)", answer.status, judgement.reason)
        return judgement, answer.status, False

    def _settle(self, batch: Batch, answer: Answer) -> None:
        refused = min(refused_events(answer), batch.spans)
        self._counters.dropped("rejected", refused)
        self._counters.accepted(batch.spans - refused)

    def _warn_of_pause(self, judgement: Judgement, lost: int) -> None:
        if self._warned or self.hurry.is_set():
            return
        self._warned = True
        advice = "check AGENTPULSE_API_KEY"
        if self._settings.endpoint.is_loopback:
            advice += " (a local server takes the key that is in the file that it names)"
        _logger.warning(
            "AgentPulse took none of %s, and is left alone for %d seconds: it does not take the "
            "API key; %s.",
            number_of_spans(lost),
            judgement.seconds,
            advice,
        )
        self._counters.told(lost)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)
