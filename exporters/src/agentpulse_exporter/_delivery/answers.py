"""What an answer of the receiver means for the batch it was given for. Pure."""

from __future__ import annotations

import enum
import gzip
import json
import logging
import math
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import cast

from agentpulse_exporter._delivery.http import Answer

MAX_HOLD = 300.0
"""Seconds that an answer can make the exporter wait, at most."""
PAUSE = 60.0
"""Seconds of silence where the receiver wants none of what this process sends."""

_RETRIED = frozenset({408, 425})
_FROM_A_PROXY = frozenset({502, 503, 504})
"""What is answered while the receiver itself is down, or about to start."""


class Verdict(enum.Enum):
    """What to do with the batch."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    """A refusal that may be a passing one: worth a few tries."""
    AWAY = "away"
    """Nobody is there who could take or refuse anything. Keep it, and look again later."""
    HOLD = "hold"
    """Keep it, and everything else, for as long as the answer says."""
    SPLIT = "split"
    PAUSE = "pause"
    """Drop it, and send nothing for a while."""
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, the word the counters have for a loss by it, and the seconds to hold."""

    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


_BY_STATUS = {
    400: Judgement(Verdict.SPLIT, "rejected"),
    401: Judgement(Verdict.PAUSE, "unauthorized", PAUSE),
    403: Judgement(Verdict.PAUSE, "unauthorized", PAUSE),
    413: Judgement(Verdict.SPLIT, "too_large"),
}


def judge(answer: Answer) -> Judgement:
    """What the answer means, by its status and a few headers."""
    status = answer.status
    if 200 <= status < 300:  # the class of success
        # A page with status 200 is a captive portal or a wrong address, and took nothing.
        if answer.content_type == "text/html":
            return Judgement(Verdict.AWAY, "not_an_ingest_api")
        return Judgement(Verdict.ACCEPTED)
    held = _retry_after(answer.retry_after)
    if status == 429:
        return Judgement(Verdict.HOLD, "rate_limited", PAUSE if held is None else held)
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status in _FROM_A_PROXY:
        return Judgement(Verdict.AWAY, "server_error", held or 0.0)
    if status < 200 or status >= 500 or status in _RETRIED:
        if held:
            return Judgement(Verdict.HOLD, "server_error", held)
        return Judgement(Verdict.RETRY, "server_error")
    return Judgement(Verdict.DROP, "redirected" if status < 400 else "rejected")


def refused_events(answer: Answer) -> int:
    """How many events of an accepted batch the receiver says it refused."""
    try:
        told: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return 0
    refused = cast("dict[str, object]", told).get("rejected") if isinstance(told, dict) else None
    if isinstance(refused, list):
        return len(cast("list[object]", refused))
    return refused if type(refused) is int and refused > 0 else 0


def _retry_after(text: str | None) -> float | None:
    """Seconds from 0 to the most that is waited for; None where the header says nothing."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_HOLD) if math.isfinite(seconds) else None


# Whether requests to this receiver are compressed, by what it answered to those before.
#
# Some receivers read no gzip: they refuse a body that they take for broken JSON, or hang up. Any
# refusal may also have another reason (an outage, a quota, a wrong size), so that one answer says
# nothing. Unless the last compressed batch was accepted, one that is refused is sent again as it
# is, and the difference between the two answers decides.

_logger = logging.getLogger("agentpulse.exporter")

_SECONDS_UNTIL_ASKED_AGAIN = 600.0


def gzipped(body: bytes) -> bytes:
    """A body as gzip; the same for the same body."""
    return gzip.compress(body, compresslevel=5, mtime=0)


def is_refusal(status: int) -> bool:
    """Whether a status may mean that the body could not be read."""
    return status >= 400  # both classes of errors


class Compression:
    """On at first, off where a receiver reads plain batches only, and asked again at times."""

    def __init__(self) -> None:
        self._is_proven = False
        self._plain_until = 0.0

    def is_on(self) -> bool:
        """Whether the next batch is compressed."""
        return time.monotonic() >= self._plain_until

    @property
    def is_in_doubt(self) -> bool:
        """Whether a compressed batch that is refused has to be sent again without compression."""
        return not self._is_proven

    def accepted(self) -> None:
        """A compressed batch was accepted."""
        self._is_proven = True

    def compare(self, compressed: int | None, plain: int | None) -> None:
        """Learns from the two answers to one batch, each a status, or None where there was none."""
        # Where the second one had none, the receiver may just have gone away.
        if plain is not None and plain != compressed:
            self._plain_until = time.monotonic() + _SECONDS_UNTIL_ASKED_AGAIN
            _logger.debug("The receiver does not read gzip; sending plain JSON for a while")

    def doubt(self) -> None:
        """A compressed batch was refused: the next one that is has to be compared."""
        self._is_proven = False
