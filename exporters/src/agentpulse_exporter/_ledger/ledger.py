"""One call, one cost: finds the spans that record a model call that another span records already.

Instrumentations stack: a framework's span, a second vendor's and the client's own may all record
one call, each with its tokens. Where the instrumentations know of each other, one of them records
it; the ledger is for all the others, at the one point that sees every span.

Two spans record the same call where they carry the same response id in one trace, or in two traces
at the same time. Where one of them carries no id, they do so if nothing that both have of model and
tokens differs, and one is the other's parent, or they come from different instrumentations and most
of one lies within the other. Each instrumentation records a call once, so of several equal calls at
the same time each is matched with one.

Also the tree of the spans that are sent. Web and database spans of the same provider aren't sent,
so a span inside one of them is sent as a child of the nearest span around it that is.

And the owner of each span, the exporter that sends it, where several of one process have one
destination. `agentpulse.init` may join a provider on which somebody has put an exporter of ours
already. Each span would be sent twice then, and billed twice. So a processor of ours becomes the
owner of the spans that it queues, and the other exporters with its destination (endpoint and key)
drop those. A span keeps its owner when that has stopped: others may still hold the span.

A forked child has a copy of every span that was open, and may come to its end, too. The process
that began a span ends it and exports it; the child doesn't.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes
from agentpulse_exporter._values import Attributes, count, is_model_call, text

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MOST_UNSENT = 16_384
"""Spans that are known not to be sent, the last ones."""
_MOST_STEPS = 256
MOST_CALLS = 5_000
"""Calls that are remembered, the last ones."""
_MOST_ALIKE = 128
"""Calls with the same id, or of equal model and tokens, that are compared; the last ones."""
_OURS = "agentpulse_instrumentation."
_GENERATES = ("text_completion", "generate_content")
MOST_OWNED = 16_384
"""Spans whose owner is remembered; a stock processor holds 2,048 spans by default."""
_Key = tuple[object, ...]
SpanKey = tuple[int | None, int]
_Begun = tuple[str, frozenset[str]]
"""The operation and the models of a call, as its start has them."""


class Recent(OrderedDict[_K, _V]):
    """Holds at most so many entries, the last ones that were set.

    Any thread may use it without a lock: each step on it is one of the interpreter's own.
    """

    def __init__(self, most: int, forget: Callable[[_V], Any] = id) -> None:
        """Empty, for `most` entries; `forget` is given each value that had to go."""
        super().__init__()
        self._most = most
        self._forget = forget

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self._forget(self.popitem(last=False)[1])


@dataclass(eq=False, slots=True)
class Call:
    """The identity of a call, by the span that records it.

    `scopes` are the instrumentations that have recorded it; `is_ours` where one of our own has,
    which know most of a call.
    """

    span: SpanKey
    parent: SpanKey | None
    response_id: str | None
    operation: str
    models: frozenset[str]
    tokens: tuple[int | None, int | None]
    start: int
    end: int
    scopes: set[str]
    is_ours: bool
    keys: list[_Key] = field(default_factory=list[_Key])
    """The keys by which it is remembered."""

    @classmethod
    def of(cls, span: ReadableSpan, attributes: Attributes) -> Call:
        """The call that a span records."""
        scope, parent = span.instrumentation_scope, span.parent
        name = "" if scope is None else scope.name
        return cls(
            span=span_key(span),
            parent=None if parent is None else (parent.trace_id, parent.span_id),
            response_id=text(attributes, semconv.RESPONSE_ID),
            operation=_operation(attributes),
            models=_models(attributes),
            tokens=(
                count(attributes, semconv.USAGE_INPUT_TOKENS),
                count(attributes, semconv.USAGE_OUTPUT_TOKENS),
            ),
            start=span.start_time or 0,
            end=span.end_time or 0,
            scopes={name},
            is_ours=name.startswith(_OURS),
        )

    @property
    def has_tokens(self) -> bool:
        """Whether it has any tokens."""
        return any(self.tokens)

    def is_same(self, other: Call) -> bool:
        """Whether both are one call, recorded by two spans."""
        by_others = self.scopes.isdisjoint(other.scopes)
        one_trace = self.span[0] == other.span[0]
        related = self.span == other.parent or self.parent == other.span
        # Ours know of each other, so two of their spans are rarely one call.
        ours = self.is_ours and other.is_ours
        if self.response_id is not None and other.response_id is not None:
            # Some servers of models give the same few ids again and again.
            if self.response_id != other.response_id:
                return False
            if not one_trace:
                return by_others and not ours and self._meets(other)
            if ours:
                return related or (by_others and self.tokens == other.tokens)
            return by_others or self.tokens == other.tokens
        if not self._agrees(other, strictly=not one_trace):
            return False
        return related or (by_others and not ours and self._meets(other))

    def is_made_of(self, begun: _Begun) -> bool:
        """Whether a call that began so, inside this one, may be its own."""
        operation, models = begun
        return self.operation == operation and _may_be_equal(self.models, models)

    def _agrees(self, other: Call, *, strictly: bool) -> bool:
        """Whether nothing differs that both have; `strictly`, whether both have the same."""
        if self.operation != other.operation or not _may_be_equal(self.models, other.models):
            return False
        if strictly:
            return self.tokens == other.tokens != (None, None)
        pairs = zip(self.tokens, other.tokens, strict=True)
        return all(one == another or not one or not another for one, another in pairs)

    def _meets(self, other: Call) -> bool:
        """Whether they took place at the same time, but for the margins of the shorter one."""
        together = min(self.end, other.end) - max(self.start, other.start)
        return together >= 0 and 2 * together >= min(self.end - self.start, other.end - other.start)

    def kept(self) -> Iterator[_Key]:
        """The keys by which it is found."""
        yield from (("span", self.span), ("parent", self.parent))
        yield from self._recorded_by(self.scopes)

    def sought(self, scopes: Iterable[str]) -> Iterator[_Key]:
        """The keys of other spans that may record it; `scopes` are all instrumentations."""
        yield from (("span", self.span), ("parent", self.span), ("span", self.parent))
        # Equal calls of one instrumentation are as many calls.
        yield from self._recorded_by(scope for scope in scopes if scope not in self.scopes)

    def _recorded_by(self, scopes: Iterable[str]) -> Iterator[_Key]:
        if self.response_id is not None:
            yield "response", self.response_id
        for scope in scopes:
            if self.tokens != (None, None):
                for model in self.models:
                    yield "usage", model, self.tokens, scope
            yield "trace", self.span[0], scope


class Ledger:
    """Remembers the last calls."""

    def __init__(self) -> None:
        self._calls = Recent[_Key, Call](MOST_CALLS, self._forget)
        self._known: dict[_Key, list[Call]] = {}
        self._repeats = Recent[_Key, None](MOST_CALLS)
        self._scopes: set[str] = set()
        self._begun_inside = Recent[_Key, tuple[_Begun, ...]](MOST_CALLS)
        # Reentrant, for a signal handler may start a span on the thread that is starting one.
        self._lock = threading.RLock()

    def announce(self, span: ReadableSpan) -> None:
        """Notes the parent of a call that our instrumentors record: the parent may end first."""
        scope, parent = span.instrumentation_scope, span.parent
        if parent is None or scope is None or not scope.name.startswith(_OURS):
            return
        attributes: Attributes = span.attributes or {}
        if is_model_call(attributes):
            key = parent.trace_id, parent.span_id
            begun = _operation(attributes), _models(attributes)
            with self._lock:
                before = self._begun_inside.get(key, ())
                # An agent's calls are mostly of one sort, which is kept once.
                if begun not in before:
                    self._begun_inside[key] = (*before[1 - _MOST_ALIKE :], begun)

    def enter(self, spans: Iterable[ReadableSpan]) -> None:
        """Enters the model calls among spans; of several spans of one call, ours is the call."""
        read = ((span, current_attributes(span)) for span in spans)
        calls = [Call.of(span, attrs) for span, attrs in read if is_model_call(attrs)]
        for call in sorted(calls, key=lambda call: (not call.is_ours, not call.has_tokens)):
            inside = self._begun_inside.get(call.span, ())
            if not call.is_ours and any(call.is_made_of(each) for each in inside):
                self._repeats[call.span] = None
            elif call.span not in self._repeats:
                self._enter(call)

    def is_repeat(self, span: ReadableSpan) -> bool:
        """Whether the call of a span, which was entered, is that of another span."""
        return span_key(span) in self._repeats

    def _enter(self, call: Call) -> None:
        for key in call.sought(self._scopes):
            for known in self._known.get(key, ()):
                if known.span == call.span:
                    return
                # A span without tokens has no cost, so this one must be priced.
                if known.is_same(call) and (known.has_tokens or not call.has_tokens):
                    known.scopes |= call.scopes
                    known.is_ours |= call.is_ours
                    self._repeats[call.span] = None
                    return
        if len(self._scopes) < _MOST_ALIKE:
            self._scopes |= call.scopes
        call.keys = [*call.kept()]
        for key in call.keys:
            # Most keys are of one call alone, and a deque of one takes ten times the memory.
            alike = self._known.setdefault(key, [])
            alike.append(call)
            del alike[:-_MOST_ALIKE]
        self._calls[call.span] = call

    def _forget(self, call: Call) -> None:
        for key in call.keys:
            alike = self._known.get(key)
            if alike and alike[0] is call:
                del alike[0]
            if not alike:
                self._known.pop(key, None)


class Tree:
    """Which spans aren't sent, and the parent of each. Any thread may ask."""

    def __init__(self) -> None:
        self.unsent = Recent[SpanKey, SpanContext | None](MOST_UNSENT)

    def leave_out(self, span: ReadableSpan) -> None:
        """Notes a span that isn't sent, as far as it is known by now."""
        self.unsent[span_key(span)] = span.parent

    def include(self, span: ReadableSpan) -> None:
        """Notes that a span is sent after all."""
        if self.unsent:
            self.unsent.pop(span_key(span), None)

    def parent_of(self, span: ReadableSpan) -> SpanContext | None:
        """The nearest span around it that is sent."""
        parent = span.parent
        for _ in range(_MOST_STEPS):
            if parent is None or (parent.trace_id, parent.span_id) not in self.unsent:
                break
            parent = self.unsent.get((parent.trace_id, parent.span_id))
        return parent


def span_key(span: ReadableSpan) -> SpanKey:
    """The key of a span among all. Only those made by hand have no context."""
    context = span.context
    return (None, id(span)) if context is None else (context.trace_id, context.span_id)


def _operation(attributes: Attributes) -> str:
    """The operation; those that generate text have different names for one thing."""
    operation = text(attributes, semconv.OPERATION_NAME) or ""
    return "chat" if operation in _GENERATES else operation


def _models(attributes: Attributes) -> frozenset[str]:
    """The models' names. Some have the provider before, some have a word for an unknown one."""
    found = (text(attributes, semconv.REQUEST_MODEL), text(attributes, semconv.RESPONSE_MODEL))
    return frozenset(name.rpartition("/")[2] for name in found if name and name != "unknown")


def _may_be_equal(some: frozenset[str], others: frozenset[str]) -> bool:
    return not (some and others and some.isdisjoint(others))


_numbers = itertools.count()
_by_destination: dict[tuple[object, object], Destination] = {}


class Destination:
    """The exporters of one destination, and the numbers of those that own a span of it."""

    def __init__(self) -> None:
        self.exporters: WeakSet[Owner] = WeakSet()
        self.owners: Recent[tuple[SpanKey, bool], int] = Recent(MOST_OWNED)


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
        return self.is_alone or owners.setdefault(_end_key(span), number) == number

    def is_of_another(self, span: ReadableSpan) -> bool:
        """Whether another one sends the span, or sent it, in this process or the one before it."""
        owner = self.destination.owners.get(_end_key(span), self._number)
        return origins.is_inherited(span) or owner != self._number

    def stop(self) -> None:
        """Owns no more spans; those it owns stay its own."""
        self.destination.exporters.discard(self)


def _end_key(span: ReadableSpan) -> tuple[SpanKey, bool]:
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
