"""Ownership: which exporter sends a span, where several of one process have one destination.

`agentpulse.init` may join a provider on which somebody has put an exporter of ours already. Each
span would be sent twice then, and billed twice. So a processor of ours becomes the owner of the
spans that it queues, and the other exporters with its destination (endpoint and key) drop those. A
span keeps its owner when that has stopped: others may still hold the span.

A forked child has a copy of every span that was open, and may come to its end, too. The process
that began a span ends it and exports it; the child doesn't.
"""

from __future__ import annotations

import itertools
import os
from weakref import WeakSet, WeakValueDictionary

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter._ledger.ledger import Recent, SpanKey, span_key

MOST_OWNED = 16_384
"""Spans whose owner is remembered; a stock processor holds 2,048 spans by default."""
_Key = tuple[SpanKey, bool]

_numbers = itertools.count()
_by_destination: dict[tuple[object, object], Destination] = {}


class Destination:
    """The exporters of one destination, and the numbers of those that own a span of it."""

    def __init__(self) -> None:
        self.exporters: WeakSet[Owner] = WeakSet()
        self.owners: Recent[_Key, int] = Recent(MOST_OWNED)


class Owner:
    """One exporter among those with its destination. The start and the end of a span are two."""

    def __init__(self, destination: tuple[object, object], *, is_on: bool) -> None:
        """For a destination, which is an endpoint and a key."""
        self._number = next(_numbers)
        self.destination: Destination = _by_destination.setdefault(destination, Destination())
        self._is_on = is_on
        if self._is_on:
            self.destination.exporters.add(self)

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has the destination, so that ownership needs no record."""
        return len(self.destination.exporters) < 2

    def take(self, span: ReadableSpan) -> bool:
        """Whether the span is this one's, from now on if it was nobody's so far.

        No span is, where it is switched off, nor one that began before the fork of this process.
        """
        if not self._is_on or origins.is_inherited(span):
            return False
        owners, number = self.destination.owners, self._number
        return self.is_alone or owners.setdefault(_key(span), number) == number

    def is_of_another(self, span: ReadableSpan) -> bool:
        """Whether another one sends the span, or sent it, in this process or the one before it."""
        owner = self.destination.owners.get(_key(span), self._number)
        return origins.is_inherited(span) or owner != self._number

    def stop(self) -> None:
        """Owns no more spans; those it owns stay its own."""
        self.destination.exporters.discard(self)


def _key(span: ReadableSpan) -> _Key:
    return span_key(span), span.end_time is None


class Origins:
    """The spans of this process that may be open, held weakly, and those that came with the fork.

    Start times don't decide it: a span may be given one that is long past, and clocks are set back.
    """

    def __init__(self) -> None:
        self._begun: WeakValueDictionary[SpanKey, ReadableSpan] = WeakValueDictionary()
        self._inherited: frozenset[SpanKey] = frozenset()

    def begun(self, span: ReadableSpan) -> None:
        """Notes a span that starts. Never raises."""
        try:
            self._begun[span_key(span)] = span
        except TypeError:
            # Somebody's own kind of span, which can't be held weakly.
            pass

    def is_inherited(self, span: ReadableSpan) -> bool:
        """Whether it was noted before the fork that made this process, or an earlier one."""
        return bool(self._inherited) and span_key(span) in self._inherited

    def in_child(self) -> None:
        """The process is a forked child from here on."""
        self._inherited |= frozenset(self._begun.keys())
        self._begun = WeakValueDictionary()


origins = Origins()
"""Those of this process: each span that a processor of ours sees the start of."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=origins.in_child)
