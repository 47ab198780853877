"""The verdict of an answer on its batch. Pure."""

from __future__ import annotations

import enum
import gzip
import json
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
"""Answers while the receiver itself is down, or about to start."""


class Verdict(enum.Enum):
    """What to do with the batch."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    """A refusal that may be a passing one: worth a few tries."""
    AWAY = "away"
    """No receiver is there to accept or refuse it. Keep it, and try again later."""
    HOLD = "hold"
    """Keep it, and everything else, for as long as the answer asks."""
    SPLIT = "split"
    PAUSE = "pause"
    """Drop it, and send nothing for a while."""
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, the reason under which a loss by it is counted, and the seconds to hold."""

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
    """The verdict by status and a few headers."""
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
    """Seconds from 0 to the most that is waited for; None where the header has none."""
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


def gzipped(body: bytes) -> bytes:
    """A body as gzip; the same for the same body."""
    return gzip.compress(body, compresslevel=5, mtime=0)


def is_refusal(status: int) -> bool:
    """Whether a status may mean that the body could not be read."""
    return status >= 400  # both classes of errors
