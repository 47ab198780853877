"""Whether requests to this receiver are compressed, by what it made of those before."""

from __future__ import annotations

import logging
import time

_logger = logging.getLogger("agentpulse.exporter")

_UNREAD = frozenset({400, 415, 500})
"""What receivers without gzip answer to a body that they take for broken JSON."""
_TRIALS = 2
_SECONDS_UNTIL_RETRIED = 600.0


class Compression:
    """On at first, off where a receiver takes plain batches only, and tried again at times.

    Until a compressed batch was accepted, a batch refused in a way that could be due to compression
    is sent again without it. The outcome of that decides, not the refusal: a flaky server must not
    turn compression off for good.
    """

    def __init__(self) -> None:
        self._proven = False
        self._trials = _TRIALS
        self._off_until: float | None = None

    def is_on(self) -> bool:
        """Whether the next batch is compressed."""
        if self._off_until is not None and time.monotonic() >= self._off_until:
            self._off_until = None
            self._trials = 1
        return self._off_until is None

    def may_be_why(self, status: int) -> bool:
        """Whether the refusal of a compressed batch may be due to its compression."""
        return status in _UNREAD and not self._proven and self._trials > 0

    def taken(self) -> None:
        """A compressed batch was accepted."""
        self._proven = True

    def tried_without(self, *, taken: bool) -> None:
        """The same batch was sent again without compression, and was accepted or not."""
        self._trials -= 1
        if taken:
            self._off_until = time.monotonic() + _SECONDS_UNTIL_RETRIED
            _logger.debug("The receiver does not read gzip; sending plain JSON for a while")
