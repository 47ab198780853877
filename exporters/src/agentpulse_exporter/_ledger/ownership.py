"""Which exporter tells of a span, where several of one process send to the same place.

`agentpulse.init` may join a provider on which somebody has put an exporter of ours already. Each
span would be told twice then, and billed twice. So a processor of ours claims what it queues, and
the other exporters with its destination (endpoint and key) leave that out. A claim outlasts
whoever made it: when that one has stopped, others may still hold a span that it told of.
"""

from __future__ import annotations

import itertools
import os
from weakref import WeakSet, WeakValueDictionary

from opentelemetry.sdk.trace import ReadableSpan

MOST_CLAIMS = 16_384
"""Claims that are remembered; a stock processor holds 2,048 spans unless it is told otherwise."""
_Key = tuple[int, int, bool]

_numbers = itertools.count()
_by_destination: dict[tuple[object, object], Claims] = {}


class Claims:
    """The claims on spans with one destination. Any thread may claim, without a lock."""

    def __init__(self) -> None:
        self.claimants: WeakSet[Claimant] = WeakSet()
        self._newer: dict[_Key, int] = {}
        self._older: dict[_Key, int] = {}
        """The generation before, which is forgotten as a whole: to find the oldest takes time."""

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def claim(self, key: _Key, number: int) -> bool:
        """Whether it is that claimant's, from now on if it was nobody's so far."""
        owner = self._older.get(key)
        if owner is None:
            owner = self._newer.setdefault(key, number)
            if 2 * len(self._newer) >= MOST_CLAIMS:
                self._older, self._newer = self._newer, {}
        return owner == number

    def owner(self, key: _Key) -> int | None:
        """The number of the claimant whose it is."""
        owner = self._newer.get(key)
        return self._older.get(key) if owner is None else owner


class Claimant:
    """One exporter among those with its destination. The start and the end of a span are two."""

    def __init__(self, destination: tuple[object, object], *, is_on: bool) -> None:
        """For a destination, which is an endpoint and a key."""
        self._number = next(_numbers)
        self._claims = _by_destination.setdefault(destination, Claims())
        self._is_on = is_on
        if self._is_on:
            self._claims.claimants.add(self)

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has the destination, so that there is nothing to claim."""
        return len(self._claims.claimants) < 2

    def claim(self, span: ReadableSpan) -> bool:
        """Whether the span is this one's to tell of; it is, unless another one was faster.

        Nothing is, where it is switched off, nor what began before the fork that made this process.
        """
        if not self._is_on or origins.is_inherited(span):
            return False
        key = _key(span)
        return key is None or self.is_alone or self._claims.claim(key, self._number)

    def is_claimed_by_another(self, span: ReadableSpan) -> bool:
        """Whether another one tells of the span, or told, in this process or the one before it."""
        if origins.is_inherited(span):
            return True
        key = _key(span)
        owner = None if key is None else self._claims.owner(key)
        return owner is not None and owner != self._number

    def shares_with(self, other: Claimant) -> bool:
        """Whether both have one destination."""
        return self._claims is other._claims

    def leave(self) -> None:
        """Claims nothing any more; what was claimed stays so."""
        self._claims.claimants.discard(self)


def _key(span: ReadableSpan) -> _Key | None:
    context = span.context
    return None if context is None else (context.trace_id, context.span_id, span.end_time is None)


# Which spans were begun by the process that this one was forked from.
#
# A forked child has a copy of every span that was open, and may come to its end, too. The process
# that began a span ends it and exports it; the child leaves it out.

_Id = tuple[int, int]


class Origins:
    """The spans of this process that may be open, held weakly, and those that came with the fork.

    Start times don't decide it: a span may be given one that is long past, and clocks are set back.
    """

    def __init__(self) -> None:
        self._begun: WeakValueDictionary[_Id, ReadableSpan] = WeakValueDictionary()
        self._inherited: frozenset[_Id] = frozenset()

    def begun(self, span: ReadableSpan) -> None:
        """Notes a span that starts. Never raises."""
        context = span.context
        if context is not None:
            try:
                self._begun[context.trace_id, context.span_id] = span
            except TypeError:
                # Somebody's own kind of span, which can't be held weakly.
                pass

    def is_inherited(self, span: ReadableSpan) -> bool:
        """Whether it was noted before the fork that made this process, or an earlier one."""
        context = span.context
        if not self._inherited or context is None:
            return False
        return (context.trace_id, context.span_id) in self._inherited

    def in_child(self) -> None:
        """The process is a forked child from here on."""
        self._inherited |= frozenset(self._begun.keys())
        self._begun = WeakValueDictionary()


origins = Origins()
"""Those of this process: each span that a processor of ours sees the start of."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=origins.in_child)
