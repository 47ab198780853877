"""What is asked of the worker, and what whoever flushes learns from it."""

from __future__ import annotations

from enum import Enum

from agentpulse_exporter.interrupt import Interrupt


class Flush:
    """A request to send everything by a deadline, and its outcome."""

    __slots__ = ("deadline", "finished", "is_complete", "up_to")

    def __init__(self, deadline: float, up_to: int) -> None:
        """`deadline` is monotonic; `up_to` is how many spans must have left the queue."""
        self.deadline = deadline
        self.up_to = up_to
        self.finished = Interrupt()
        self.is_complete = False


class Wake(Enum):
    """Why the worker sends, where nobody waits for the outcome."""

    FULL = "a batch is full"
    """What fills no request may wait for more."""
    ALL = "the interval is over, something starts, or all ends"
