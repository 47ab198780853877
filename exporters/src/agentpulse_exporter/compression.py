"""Whether requests to this receiver are compressed, by what it answered to those before.

Some receivers read no gzip: they refuse a body that they take for broken JSON, or hang up. Any
refusal may also have another reason (an outage, a quota, a wrong size), so that one answer says
nothing. Until a compressed batch was accepted, each one that is refused is sent again as it is, and
the difference between the two answers decides.
"""

from __future__ import annotations

import gzip
import logging
import time

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
        """A batch was refused for good: another receiver may have taken the place of the one."""
        self._is_proven = False
