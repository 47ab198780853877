"""Gets batches to the receiver, or says what became of them."""

from __future__ import annotations

import gzip
import itertools
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from agentpulse_exporter.answers import PAUSE, Judgement, Verdict, judge, refused_events
from agentpulse_exporter.batching import Batch
from agentpulse_exporter.compression import Compression
from agentpulse_exporter.counters import Counters
from agentpulse_exporter.interrupt import Interrupt
from agentpulse_exporter.local_key import Keys
from agentpulse_exporter.settings import Settings
from agentpulse_exporter.transport import TLS, Answer, NoAnswerError, Transport
from agentpulse_exporter.version import VERSION

_logger = logging.getLogger("agentpulse.exporter")

TRIES = 3
FIRST_WAIT = 0.5
"""Seconds before the second try; twice that before the third."""
ATTEMPT = 5.0
"""Seconds that one try takes, at most."""
ATTEMPT_AT_EXIT = 2.0
_WORTH_TRIMMING = 2048


@dataclass(slots=True)
class Hold:
    """How long nothing is sent, and why."""

    until: float = 0.0
    reason: str = ""

    def seconds(self) -> float:
        """What is left of it."""
        return max(self.until - time.monotonic(), 0.0)


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
        self.hurry = Interrupt()
        self.gave_up = False
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

    def deliver(self, batch: Batch) -> list[Batch]:
        """Settles the batch with the counters. Returns what the receiver asks to keep for later."""
        waiting = [batch]
        while waiting:
            if self.hold.seconds() or self.gave_up:
                return waiting
            current = waiting.pop(0)
            judgement = self._try(current)
            if judgement.verdict is Verdict.HOLD:
                self._hold(judgement)
                return [current, *waiting]
            waiting = [*self._after(judgement, current), *waiting]
        return []

    def _after(self, judgement: Judgement, batch: Batch) -> list[Batch]:
        """What is left to be sent of a batch after the last word on it."""
        if judgement.verdict is Verdict.ACCEPTED:
            self._holds_in_a_row = 0
            self._warned = False
            return []
        if judgement.verdict is Verdict.SPLIT:
            return self._smaller(batch, judgement.reason)
        self._counters.dropped(judgement.reason, batch.spans)
        if judgement.verdict is Verdict.PAUSE:
            self.hold = Hold(time.monotonic() + judgement.seconds, judgement.reason)
            self._warn_of_pause(judgement, batch.spans)
        return []

    def _smaller(self, batch: Batch, reason: str) -> list[Batch]:
        event, *others = batch.events
        if others:
            return list(batch.halves())
        trimmed = event.trimmed() if len(event.json) > _WORTH_TRIMMING else None
        if trimmed is not None:
            return [Batch((trimmed,))]
        self._counters.dropped(reason, event.spans)
        return []

    def _hold(self, judgement: Judgement) -> None:
        # A receiver that says "at once" each time would be hammered otherwise.
        own = self._jittered(min(FIRST_WAIT * 2**self._holds_in_a_row, PAUSE))
        self._holds_in_a_row = min(self._holds_in_a_row + 1, 10)
        seconds = max(judgement.seconds, own)
        self.hold = Hold(time.monotonic() + seconds, judgement.reason)

    def _try(self, batch: Batch) -> Judgement:
        """Tries until there is a last word on the batch."""
        body = batch.body(self._settings.agent_name, VERSION)
        judgement = Judgement(Verdict.RETRY)
        for tried in range(TRIES):
            if tried and self.hurry.wait(self._jittered(FIRST_WAIT * 2 ** (tried - 1))):
                break
            self._counters.requested(again=tried > 0)
            judgement = self._send(batch, body)
            if judgement.verdict is not Verdict.RETRY:
                return judgement
            if self.hurry.is_set():
                break
        # Nobody waits at exit to hear the same from every batch.
        self.gave_up = self.hurry.is_set()
        return judgement

    def _send(self, batch: Batch, body: bytes) -> Judgement:
        """One try: a request, or two where compression may be what the receiver can't read."""
        compressed = self._compression.is_on()
        judgement, answer = self._request(batch, body, compressed=compressed)
        if compressed and answer is not None and self._compression.may_be_why(answer.status):
            # The receiver may be one that has no gzip, and then it takes the same as it is.
            self._counters.requested(again=True)
            judgement, answer = self._request(batch, body, compressed=False)
            self._compression.tried_without(taken=judgement.verdict is Verdict.ACCEPTED)
        elif compressed and judgement.verdict is Verdict.ACCEPTED:
            self._compression.taken()
        if judgement.verdict is Verdict.ACCEPTED and answer is not None:
            self._settle(batch, answer)
        return judgement

    def _settle(self, batch: Batch, answer: Answer) -> None:
        refused = min(refused_events(answer), batch.spans)
        self._counters.dropped("rejected", refused)
        self._counters.accepted(batch.spans - refused)

    def _request(
        self, batch: Batch, body: bytes, *, compressed: bool
    ) -> tuple[Judgement, Answer | None]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"agentpulse-python/{VERSION}",
            "Idempotency-Key": batch.id,
        }
        if compressed:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=5, mtime=0)
        tries = itertools.count()

        def post(authorization: Mapping[str, str]) -> Answer:
            if next(tries):
                self._counters.requested(again=True)
            seconds = ATTEMPT
            if self._deadline is not None:
                seconds = min(ATTEMPT_AT_EXIT, self._deadline - time.monotonic())
            return self._transport.post(body, {**headers, **authorization}, seconds=seconds)

        try:
            answer = self._keys.send(post)
        except NoAnswerError as error:
            _logger.debug("AgentPulse gave no answer: %s", error)
            if error.reason == TLS:
                return Judgement(Verdict.PAUSE, TLS, PAUSE), None
            return Judgement(Verdict.RETRY, error.reason), None
        judgement = judge(answer)
        if judgement.verdict is not Verdict.ACCEPTED:
            _logger.debug("AgentPulse answered %d (%s)", answer.status, judgement.reason)
        return judgement, answer

    def _warn_of_pause(self, judgement: Judgement, lost: int) -> None:
        if self._warned or self.hurry.is_set():
            return
        self._warned = True
        advice = {
            "unauthorized": "it does not take the API key; check AGENTPULSE_API_KEY",
            TLS: "its certificate can't be verified; check AGENTPULSE_ENDPOINT and SSL_CERT_FILE",
        }[judgement.reason]
        if judgement.reason == "unauthorized" and self._settings.endpoint.is_loopback:
            advice += " (a local server takes the key that is in the file that it names)"
        _logger.warning(
            "AgentPulse took none of %d spans, and is left alone for %d seconds: %s.",
            lost,
            judgement.seconds,
            advice,
        )
        self._counters.told(lost)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)
