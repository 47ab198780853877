"""Gets batches to the receiver, or counts why not."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from agentpulse_exporter import __version__
from agentpulse_exporter._delivery.answers import (
    PAUSE,
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
from agentpulse_exporter._delivery.waits import wait_until
from agentpulse_exporter._wire.event import Batch
from agentpulse_exporter.settings import Settings

_logger = logging.getLogger("agentpulse.exporter")

TRIES = 3
"""Of a batch that is refused."""
FIRST_WAIT = 0.5
"""Seconds before the second try; twice that before the third."""
FIRST_LOOK = 1.0
"""Seconds before the second try of a receiver that is away; twice that before each next one."""
LAST_LOOK = 60.0
TO_CONNECT = 5.0
"""Seconds that a new connection takes, at most."""
ATTEMPT = 30.0
"""Seconds that one try takes, at most. Long, for a receiver that stored a batch and was slow to
answer may count it again when it comes again."""
ATTEMPT_AT_EXIT = 2.0
_HALVINGS = 7
"""Of a batch with a bad event in it; one that is all bad costs no more than these, and the next
ones only one each, until a part of one is accepted."""
_WORTH_TRIMMING = 2048
_LOGGED_AFTER = 10.0
"""Seconds that a receiver is away before that is logged."""
_SECONDS_UNTIL_COMPRESSED = 600.0
"""Seconds after which a receiver that reads plain batches only gets a compressed one again."""


@dataclass(slots=True)
class Absence:
    """A receiver that gives no answer: since when, and how often it was tried."""

    since: float
    """Of the monotonic clock."""
    reason: str
    tries: int = 0
    is_logged: bool = False

    @property
    def seconds(self) -> float:
        """How long it has been so."""
        return time.monotonic() - self.since


class Delivery:
    """Delivers one batch at a time, on whatever thread asks; not for several at once."""

    def __init__(self, settings: Settings, transport: Transport, counters: Counters) -> None:
        self._settings = settings
        self._keys = Keys(settings.address, settings.api_key)
        self._transport = transport
        self._counters = counters
        self._random = random.SystemRandom()
        self._has_warned = False
        self.start_over()

    def start_over(self) -> None:
        """Forgets everything learnt of the receiver, as a child process does."""
        self.gave_up: bool = False
        self.absence: Absence | None = None
        self._deadline: float | None = None
        self._paused_until = 0.0
        self._holds_in_a_row = 0
        self._refusals = 0
        """In a row, of bad batches and their parts."""
        self._reads_gzip = False
        """Whether the last compressed batch was accepted."""
        self._refuses_both = False
        """Whether the batch under way was refused alike in both forms."""
        self._plain_until = 0.0

    @property
    def is_ending(self) -> bool:
        """Whether the end has come: `finish_by` was called."""
        return self._deadline is not None

    def finish_by(self, deadline: float) -> None:
        """From now on: one short try for each batch, no waiting, and none after one that failed.

        `deadline` is of the monotonic clock. Safe to call from any thread and from a signal
        handler.
        """
        self._deadline = deadline

    def pause(self) -> float:
        """Seconds for which nothing is sent. At the end, one try is due in any case."""
        is_last_try = self.is_ending and self.absence is not None
        return 0.0 if is_last_try else max(self._paused_until - time.monotonic(), 0.0)

    def look_again(self) -> None:
        """Has the next batch tried at once where the receiver was away."""
        absence = self.absence
        if absence is not None:
            absence.tries = 0
            self._paused_until = 0.0

    def deliver(self, batch: Batch) -> list[Batch]:
        """Settles the batch with the counters. Returns the batches that are kept for later."""
        waiting = [batch]
        halvings = 0
        self._refuses_both = False
        while waiting:
            if self.pause() or self.gave_up:
                return waiting
            current, *rest = waiting
            begun = time.monotonic()
            judgement = self._try(current)
            if judgement.verdict is Verdict.AWAY:
                self._miss(judgement, begun)
                return waiting
            self._come_back()
            if judgement.verdict is Verdict.HOLD:
                # A receiver that asks for no pause each time would be hammered otherwise.
                self._pause(judgement, FIRST_WAIT, self._holds_in_a_row, PAUSE)
                self._holds_in_a_row += 1
                return waiting
            if judgement.verdict is Verdict.SPLIT and judgement.reason == "rejected":
                halvings += 1
                self._refusals += 1
                if halvings > (_HALVINGS if self._refusals <= _HALVINGS + 1 else 1):
                    self._counters.dropped(judgement.reason, sum(each.spans for each in waiting))
                    return []
            waiting = [*self._after(judgement, current), *rest]
        return []

    def log_absence(self, queued: int) -> None:
        """Logs, once, that the receiver has been away for a while, and how many spans wait."""
        absence = self.absence
        if absence is None or absence.is_logged or self.is_ending:
            return
        if absence.seconds < _LOGGED_AFTER:
            return
        absence.is_logged = True
        _logger.warning(
            "AgentPulse has not answered since %s (%s; %s): %s wait, and are sent when it does.",
            time.strftime("%H:%M:%S", time.localtime(time.time() - absence.seconds)),
            absence.reason,
            ADVICE.get(absence.reason, "it may be starting"),
            number_of_spans(queued),
        )

    def _miss(self, judgement: Judgement, begun: float) -> None:
        """The receiver is away: nothing is sent until the next try."""
        # At exit nobody waits for the same outcome of every batch.
        self.gave_up = self.gave_up or self.is_ending
        absence = self.absence = self.absence or Absence(begun, judgement.reason)
        absence.reason = judgement.reason
        self._pause(judgement, FIRST_LOOK, absence.tries, LAST_LOOK)
        absence.tries += 1

    def _pause(self, judgement: Judgement, first: float, times: int, most: float) -> None:
        """Sends nothing for as long as the answer asks, or else longer each time."""
        own = self._jittered(min(first * 2 ** min(times, 10), most))
        self._paused_until = time.monotonic() + max(judgement.seconds, own)

    def _come_back(self) -> None:
        absence, self.absence = self.absence, None
        if absence is None:
            return
        self._paused_until = 0.0
        if absence.is_logged:
            _logger.warning(
                "AgentPulse answers again after %d seconds; the spans that waited are sent.",
                absence.seconds,
            )

    def _after(self, judgement: Judgement, batch: Batch) -> list[Batch]:
        """The parts of a batch that are still to be sent after its verdict."""
        if judgement.verdict is Verdict.ACCEPTED:
            self._holds_in_a_row = self._refusals = 0
            self._has_warned = False
            return []
        event, *others = batch.events
        if judgement.verdict is Verdict.SPLIT:
            if others:
                return list(batch.halves())
            trimmed = event.trimmed() if len(event.json) > _WORTH_TRIMMING else None
            if trimmed is not None:
                return [Batch((trimmed,))]
        self._counters.dropped(judgement.reason, batch.spans)
        if judgement.verdict is Verdict.PAUSE:
            self._paused_until = time.monotonic() + judgement.seconds
            self._warn_of_pause(judgement, batch.spans)
        return []

    def _try(self, batch: Batch) -> Judgement:
        """Tries until there is a final verdict on the batch, or no receiver to give one."""
        body = batch.body(self._settings.agent_name, __version__)
        judgement = Judgement(Verdict.RETRY)
        for tried in range(TRIES):
            if tried and self._ends_within(self._jittered(FIRST_WAIT * 2 ** (tried - 1))):
                break
            self._counters.requested(again=tried > 0)
            judgement = self._send(batch, body)
            if judgement.verdict is not Verdict.RETRY:
                return judgement
            if self.is_ending:
                break
        self.gave_up = self.is_ending
        return judgement

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        return wait_until(lambda: self.is_ending, deadline, self._transport.primitives.sleep)

    def _send(self, batch: Batch, body: bytes) -> Judgement:
        """One try: a request, or two where the receiver may not read gzip.

        Some receivers read no gzip: they refuse a body that they take for broken JSON, or hang up.
        Any refusal may also have another reason (an outage, a quota, a wrong size), so that one
        answer decides nothing. Unless the last compressed batch was accepted, one that is refused
        is sent again as it is, and the difference between the two answers decides.
        """
        compressed = time.monotonic() >= self._plain_until and not self._refuses_both
        judgement, status, ended = self._request(batch, body, compressed=compressed)
        if compressed and judgement.verdict is Verdict.ACCEPTED:
            self._reads_gzip = True
        elif compressed and (ended or is_refusal(status or 0)):
            if not self._reads_gzip or judgement.verdict is Verdict.DROP:
                self._counters.requested(again=True)
                judgement, plain, _ = self._request(batch, body, compressed=False)
                # Where the second one had no answer, the receiver may just have gone away.
                if plain is not None and plain != status:
                    self._plain_until = time.monotonic() + _SECONDS_UNTIL_COMPRESSED
                    _logger.debug("The receiver does not read gzip; sending plain JSON for a while")
                self._refuses_both = plain == status
            # Another receiver may have replaced the one that read it.
            self._reads_gzip = False
        return judgement

    def _request(
        self, batch: Batch, body: bytes, *, compressed: bool
    ) -> tuple[Judgement, int | None, bool]:
        """The verdict, the status of the answer, and whether the receiver hung up on us."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"agentpulse-python/{__version__}",
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
            refused = min(refused_events(answer), batch.spans)
            self._counters.dropped("rejected", refused)
            self._counters.accepted(batch.spans - refused)
        else:
            _logger.debug("AgentPulse answered %d (%s)", answer.status, judgement.reason)
        return judgement, answer.status, False

    def _warn_of_pause(self, judgement: Judgement, lost: int) -> None:
        if self._has_warned or self.is_ending:
            return
        self._has_warned = True
        advice = "check AGENTPULSE_API_KEY"
        if self._settings.address.is_loopback:
            advice += " (a local server accepts the key in the file that it names)"
        _logger.warning(
            "AgentPulse accepted none of %s, and gets nothing for %d seconds: it does not accept "
            "the API key; %s.",
            number_of_spans(lost),
            judgement.seconds,
            advice,
        )
        self._counters.logged(lost)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)
