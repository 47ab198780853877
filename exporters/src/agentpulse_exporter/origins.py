"""Which spans were begun by the process that this one was forked from.

A forked child has a copy of every span that was open, and may come to its end, too. The process
that began a span ends it and exports it; the child leaves it out.
"""

from __future__ import annotations

import os
from weakref import WeakValueDictionary

from opentelemetry.sdk.trace import ReadableSpan

_Key = tuple[int, int]


class Origins:
    """The spans of this process that may be open, held weakly, and those that came with the fork.

    Start times don't decide it: a span may be given one that is long past, and clocks are set back.
    """

    def __init__(self) -> None:
        self._begun: WeakValueDictionary[_Key, ReadableSpan] = WeakValueDictionary()
        self._inherited: frozenset[_Key] = frozenset()

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
