"""What is still open when recording stops: answers that nobody read to their end, or closed.

Their spans end then, with what came until then, so that no call is lost with the process.
"""

from __future__ import annotations

from typing import Protocol
from weakref import ReferenceType, ref

from agentpulse_instrumentation.shield import shield

_LEAVE = shield("end what is unfinished")


class Leavable(Protocol):
    """Something whose span ends when it is left."""

    def left(self) -> None:
        """Nobody will go on with it."""


class Unfinished:
    """The open answers of one `instrument()`, held weakly. Any thread may add and discard."""

    __slots__ = ("_things",)

    def __init__(self) -> None:
        self._things: dict[int, ReferenceType[Leavable]] = {}

    def add(self, thing: Leavable) -> None:
        """Notes a thing that is open from now on, until it is discarded."""
        self._things[id(thing)] = ref(thing)

    def discard(self, thing: Leavable) -> None:
        """Forgets it, as whoever adds must do no later than when it is finalized."""
        self._things.pop(id(thing), None)

    def leave(self) -> None:
        """Leaves all of them. In a forked child, those of its parent end nothing by that."""
        for reference in list(self._things.values()):
            thing = reference()
            if thing is not None:
                # One that can't be ended keeps no other open.
                with _LEAVE:
                    thing.left()
