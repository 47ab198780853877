"""Sends batches to the receiver, or counts the reason of the loss: verdicts, tries, pauses."""

from __future__ import annotations

import enum
import gzip
import json
import logging
import math
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import cast

from agentpulse_exporter import __version__
from agentpulse_exporter._delivery.http import INGEST, Answer, NoAnswerError, Transport
from agentpulse_exporter._delivery.process import wait_until
from agentpulse_exporter._delivery.stats import ADVICE, Counters, number_of_spans
from agentpulse_exporter._wire.event import Batch
from agentpulse_exporter.settings import Settings

_logger = logging.getLogger("agentpulse.exporter")

MAX_HOLD = 300.0
"""Seconds that an answer can make the exporter wait, at most."""
PAUSE = 60.0
"""Seconds without requests after the receiver refused everything from this process."""
FIRST_WAIT = 0.5
"""Seconds before the second try of a batch that is refused; twice that before the last one."""
FIRST_LOOK = 1.0
"""Seconds before the second try of a receiver that is away; twice that before each next one."""
LAST_LOOK = 60.0
ATTEMPT = 30.0
"""Seconds that one try takes, at most. It is long, because a slow receiver may have stored the
batch already, and may count it twice if it is sent again."""
ATTEMPT_AT_EXIT = 2.0
_HALVINGS = 7
"""Halvings, at most, of a batch with a bad event. After a batch that was bad as a whole, the next
batches get only one halving each, until a part of one is accepted."""
_WORTH_TRIMMING = 2048
_LOGGED_AFTER = 10.0
"""Seconds of absence of the receiver before it is logged."""
_SECONDS_UNTIL_COMPRESSED = 600.0
"""Seconds after which a receiver that reads only plain batches gets a compressed one again."""


class Verdict(enum.Enum):
    """The next step for the batch."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    """The refusal may be temporary: try a few more times."""
    AWAY = "away"
    """No receiver is there to accept or refuse it. Keep it, and try again later."""
    HOLD = "hold"
    """Keep all batches, for as long as the answer asks."""
    SPLIT = "split"
    PAUSE = "pause"
    """Drop it, and send nothing for a while."""
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and the reason under which a loss by it is counted."""

    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    """For how long the receiver asks for no requests."""
    status: int | None = None
    """The status of the answer, if there was an answer."""
    hung_up: bool = False


_BY_STATUS = {
    400: (Verdict.SPLIT, "rejected"),
    401: (Verdict.PAUSE, "unauthorized"),
    403: (Verdict.PAUSE, "unauthorized"),
    408: (Verdict.RETRY, "server_error"),
    413: (Verdict.SPLIT, "too_large"),
    425: (Verdict.RETRY, "server_error"),
    429: (Verdict.HOLD, "rate_limited"),
    # Sent by a proxy while the receiver itself is down, or about to start.
    502: (Verdict.AWAY, "server_error"),
    503: (Verdict.AWAY, "server_error"),
    504: (Verdict.AWAY, "server_error"),
}
_BY_CLASS = {
    2: (Verdict.ACCEPTED, ""),
    3: (Verdict.DROP, "redirected"),
    4: (Verdict.DROP, "rejected"),
}


def judge(answer: Answer) -> Judgement:
    """The verdict by status and a few headers."""
    status, held = answer.status, _retry_after(answer.retry_after)
    by_class = _BY_CLASS.get(status // 100, (Verdict.RETRY, "server_error"))
    verdict, reason = _BY_STATUS.get(status, by_class)
    # A page with status 200 is a captive portal or a wrong address, and took nothing.
    if verdict is Verdict.ACCEPTED and answer.content_type == "text/html":
        verdict, reason = Verdict.AWAY, "not_an_ingest_api"
    if verdict is Verdict.RETRY and held:
        verdict = Verdict.HOLD
    if held is None:
        held = PAUSE if reason in ("unauthorized", "rate_limited") else 0.0
    return Judgement(verdict, reason, held, status)


def refused_events(answer: Answer) -> int:
    """How many events of an accepted batch the receiver refused."""
    try:
        found: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return 0
    refused = cast("dict[str, object]", found).get("rejected") if isinstance(found, dict) else None
    if isinstance(refused, list):
        return len(cast("list[object]", refused))
    return refused if type(refused) is int and refused > 0 else 0


def _retry_after(text: str | None) -> float | None:
    """Seconds from 0 to `MAX_HOLD`; None if the header holds no time."""
    try:
        seconds = float(text or "")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_HOLD) if math.isfinite(seconds) else None


def gzipped(body: bytes) -> bytes:
    """The body as gzip; equal bodies give equal bytes."""
    return gzip.compress(body, compresslevel=5, mtime=0)


def is_refusal(status: int) -> bool:
    """Whether a status may mean that the body could not be read."""
    return status >= 400  # both classes of errors


class Delivery:
    """Delivers one batch at a time, on any thread, but not on several threads at once."""

    def __init__(self, settings: Settings, transport: Transport, counters: Counters) -> None:
        self._agent_name = settings.agent_name
        self._transport = transport
        self._counters = counters
        self._random = random.SystemRandom()
        self.start_over()

    def start_over(self) -> None:
        """Forgets everything learnt of the receiver, as a child process does."""
        self.absence: str = ""
        """The reason why the receiver doesn't answer; empty if it does."""
        self._away_since = 0.0
        self._is_absence_logged = False
        self._deadline: float | None = None
        self._gave_up = False
        self._paused_until = 0.0
        self._kept_in_a_row = 0
        """Tries in a row after which the batch was kept, with or without an answer."""
        self._may_halve = True
        """False after a bad batch, until some batch or part of one is accepted."""
        self._reads_gzip = False
        """Whether the last compressed batch was accepted."""
        self._refuses_both = False
        """Whether the current batch was refused alike as gzip and as plain JSON."""
        self._plain_until = 0.0

    @property
    def is_ending(self) -> bool:
        """Whether the end has come: `finish_by` was called."""
        return self._deadline is not None

    def finish_by(self, deadline: float) -> None:
        """From now on, makes one short try for each batch, without waits, and stops at a failure.

        `deadline` is a time of the monotonic clock. Safe to call from any thread and from a signal
        handler.
        """
        self._deadline = deadline

    def pause(self) -> float:
        """Seconds for which nothing is sent; infinite if a try failed while the process ends."""
        if self._gave_up:
            return math.inf
        # At the end, one try is due in any case.
        is_last_try = self.is_ending and self.absence
        return 0.0 if is_last_try else max(self._paused_until - time.monotonic(), 0.0)

    def look_again(self) -> None:
        """Ends the backoff of an absent receiver at once, because a caller waits for a flush."""
        if self.absence:
            self._kept_in_a_row = 0
            self._paused_until = 0.0

    def deliver(self, batch: Batch) -> list[Batch]:
        """Sends the batch and counts its spans as accepted or dropped.

        Returns:
            The batches to retry later.
        """
        waiting = [batch]
        halvings = _HALVINGS if self._may_halve else 1
        self._refuses_both = False
        while waiting and not self.pause():
            begun = time.monotonic()
            judgement = self._try(waiting[0])
            if judgement.verdict is Verdict.AWAY:
                self._miss(judgement, begun)
                break
            self._come_back()
            if judgement.verdict is Verdict.HOLD:
                self._wait(judgement)
                break
            if judgement.verdict is Verdict.SPLIT and judgement.reason == "rejected":
                halvings, self._may_halve = halvings - 1, False
                if halvings < 0:
                    self._counters.dropped(judgement.reason, sum(each.spans for each in waiting))
                    return []
            waiting[:1] = self._after(judgement, waiting[0])
        return waiting

    def _wait(self, judgement: Judgement) -> None:
        """Pauses for as long as the answer asks, but at least the backoff, which doubles."""
        own = self._jittered(min(FIRST_LOOK * 2 ** min(self._kept_in_a_row, 10), LAST_LOOK))
        self._paused_until = time.monotonic() + max(judgement.seconds, own)
        self._kept_in_a_row += 1

    def _miss(self, judgement: Judgement, begun: float) -> None:
        """Notes that the receiver is away; logs a long absence once."""
        # At exit one failed try is enough: the other batches would fail alike.
        self._gave_up = self.is_ending
        if not self.absence:
            self._away_since, self._is_absence_logged = begun, False
        self.absence = judgement.reason
        self._wait(judgement)
        seconds = time.monotonic() - self._away_since
        if seconds < _LOGGED_AFTER or self._is_absence_logged or self.is_ending:
            return
        self._is_absence_logged = True
        _logger.warning(
            "AgentPulse has not answered since %s (%s; %s): %s wait, and are sent when it does.",
            time.strftime("%H:%M:%S", time.localtime(time.time() - seconds)),
            self.absence,
            ADVICE.get(self.absence, "it may be starting"),
            number_of_spans(self._counters.stats().queued),
        )

    def _come_back(self) -> None:
        if not self.absence:
            return
        self.absence = ""
        self._kept_in_a_row = 0
        self._paused_until = 0.0
        if self._is_absence_logged:
            _logger.warning(
                "AgentPulse answers again after %d seconds; the spans that waited are sent.",
                time.monotonic() - self._away_since,
            )

    def _after(self, judgement: Judgement, batch: Batch) -> list[Batch]:
        """The parts of a batch that are still to be sent after its verdict."""
        if judgement.verdict is Verdict.ACCEPTED:
            self._kept_in_a_row = 0
            self._may_halve = True
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
        return []

    def _try(self, batch: Batch) -> Judgement:
        """Tries until the verdict is final, the tries are used up, or the process ends."""
        body = batch.body(self._agent_name, __version__)
        judgement = Judgement(Verdict.RETRY)
        for wait in (0.0, FIRST_WAIT, 2 * FIRST_WAIT):
            until = time.monotonic() + self._jittered(wait)
            if wait and wait_until(lambda: self.is_ending, until, self._transport.sleep):
                break
            judgement = self._send(batch, body, again=wait > 0)
            if judgement.verdict is not Verdict.RETRY:
                return judgement
        self._gave_up = self.is_ending
        return judgement

    def _send(self, batch: Batch, body: bytes, *, again: bool) -> Judgement:
        """One try: a request, or two if the receiver may not read gzip.

        Some receivers don't read gzip: they refuse a body as broken JSON, or hang up.
        Any refusal may also have another reason (an outage, a quota, a wrong size), so one
        answer decides nothing. Unless the last compressed batch was accepted, a refused batch
        is sent again as it is, and the difference between the two answers decides.
        """
        compressed = time.monotonic() >= self._plain_until and not self._refuses_both
        first = self._request(batch, body, compressed=compressed, again=again)
        if not compressed:
            return first
        if not first.hung_up and not is_refusal(first.status or 0):
            self._reads_gzip |= first.verdict is Verdict.ACCEPTED
            return first
        # Another receiver may have replaced the one that read it.
        read_before, self._reads_gzip = self._reads_gzip, False
        if read_before and first.verdict is not Verdict.DROP:
            return first
        plain = self._request(batch, body, compressed=False, again=True)
        self._refuses_both = plain.status == first.status
        # Where the second one had no answer, the receiver may just have gone away.
        if plain.status is not None and not self._refuses_both:
            self._plain_until = time.monotonic() + _SECONDS_UNTIL_COMPRESSED
            _logger.debug("The receiver does not read gzip; sending plain JSON for a while")
        return plain

    def _request(self, batch: Batch, body: bytes, *, compressed: bool, again: bool) -> Judgement:
        headers = {"Content-Type": "application/json", "Idempotency-Key": batch.id}
        if compressed:
            headers["Content-Encoding"] = "gzip"
            body = gzipped(body)
        seconds = ATTEMPT
        if self._deadline is not None:
            seconds = min(ATTEMPT_AT_EXIT, self._deadline - time.monotonic())
        self._counters.requested(again=again)
        try:
            answer = self._transport.request(INGEST, headers, body, seconds=seconds)
        except NoAnswerError as error:
            _logger.debug("AgentPulse gave no answer: %s", error)
            return Judgement(Verdict.AWAY, error.reason, hung_up=error.hung_up)
        for _ in range(answer.requests - 1):
            self._counters.requested(again=True)
        judgement = judge(answer)
        if judgement.verdict is Verdict.ACCEPTED:
            refused = min(refused_events(answer), batch.spans)
            self._counters.dropped("rejected", refused)
            self._counters.accepted(batch.spans - refused)
        else:
            _logger.debug("AgentPulse answered %d (%s)", answer.status, judgement.reason)
        return judgement

    def _jittered(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)
