"""One call, one cost: finds model calls that several spans record.

This module also keeps the tree of the spans that are sent, the exporter that owns each span, and
the process that began it.

Instrumentations stack: a framework's span, a second vendor's and the client's own may all record
one call, each with its tokens. If the instrumentations know of each other, only one of them records
the call. The ledger is for all other instrumentations, at the only point that sees every span.

Two spans record the same call if they carry the same response id in one trace, or in two traces at
the same time. If a span carries no id, the models and tokens that both have must be equal, and
either one span is the other's parent, or the spans come from different instrumentations and most of
one lies within the other. Each instrumentation records a call once, so of several equal calls at
the same time each is matched with one call.

The tree: web and database spans of the same provider aren't sent. A span inside such a span is sent
as a child of the nearest sent span around it.

The owner of a span is the exporter that sends it; this matters if several exporters of one process
have one destination. `agentpulse.init` may join a provider that has an AgentPulse exporter already.
Each span would then be sent twice, and billed twice. So an AgentPulse processor becomes the owner
of the spans that it queues, and the other exporters with its destination (endpoint and key) drop
those spans. A span keeps its owner after the owner has stopped: others may still hold the span.

A forked child has a copy of every open span, and may end that copy. Only the process that began a
span exports it; the child doesn't.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
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
"""Unsent spans that are remembered; the oldest are forgotten first."""
_MOST_STEPS = 256
MOST_CALLS = 5_000
"""Calls that are remembered; the oldest are forgotten first."""
_MOST_ALIKE = 128
"""The last calls with the same id, or with equal model and tokens, that are compared."""
_OURS = "agentpulse_instrumentation."
_GENERATES = ("text_completion", "generate_content")
MOST_OWNED = 16_384
"""Spans whose owner is remembered; a stock processor holds 2,048 spans by default."""
_Key = tuple[object, ...]
SpanKey = tuple[int | None, int]
_Begun = tuple[str, frozenset[str]]
"""The operation and the models of a call, as its span has them when it starts."""


class Recent(OrderedDict[_K, _V]):
    """Holds a limited number of entries: those that were set last.

    Any thread may use it without a lock: each step on it is a single step of the interpreter.
    """

    def __init__(self, most: int, forget: Callable[[_V], Any] = id) -> None:
        """Starts empty, for `most` entries; `forget` is called with each removed value."""
        super().__init__()
        self._most = most
        self._forget = forget

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self._forget(self.popitem(last=False)[1])


class Call:
    """The identity of a call, by the span that records it.

    Attributes:
        scopes: The instrumentations that have recorded it.
        is_ours: Whether one of our own instrumentors is among them; these know most of a call.
        keys: The keys by which it is remembered.
    """

    def __init__(self, span: ReadableSpan, attributes: Attributes) -> None:
        scope = span.instrumentation_scope
        name = "" if scope is None else scope.name
        self.span = span_key(span)
        self.parent = span.parent and _key(span.parent)
        self.response_id = text(attributes, semconv.RESPONSE_ID)
        self.operation, self.models = _begun(attributes)
        read = count(attributes, semconv.USAGE_INPUT_TOKENS)
        self.tokens = read, count(attributes, semconv.USAGE_OUTPUT_TOKENS)
        self.has_tokens = any(self.tokens)
        self.start, self.end = span.start_time or 0, span.end_time or 0
        self.scopes, self.is_ours = {name}, name.startswith(_OURS)
        self.keys: list[_Key] = []

    def is_same(self, other: Call) -> bool:
        """Whether two spans record the same call."""
        have_ids = self.response_id is not None and other.response_id is not None
        if have_ids and self.response_id != other.response_id:
            return False
        by_others = self.scopes.isdisjoint(other.scopes)
        one_trace = self.span[0] == other.span[0]
        related = self.span == other.parent or self.parent == other.span
        # Our instrumentors know of each other, so two of their spans are rarely one call.
        ours = self.is_ours and other.is_ours
        if have_ids:
            # Some servers of models give the same few ids again and again.
            if not one_trace:
                return by_others and not ours and self._meets(other)
            if ours:
                return related or (by_others and self.tokens == other.tokens)
            return by_others or self.tokens == other.tokens
        if not self._agrees(other, strictly=not one_trace):
            return False
        return related or (by_others and not ours and self._meets(other))

    def is_made_of(self, begun: _Begun) -> bool:
        """Whether a child call that started with these values may be the same call."""
        return self.operation == begun[0] and _may_be_equal(self.models, begun[1])

    def _agrees(self, other: Call, *, strictly: bool) -> bool:
        """Whether all values that both have are equal; `strictly`: both must have tokens."""
        if self.operation != other.operation or not _may_be_equal(self.models, other.models):
            return False
        if strictly:
            return self.tokens == other.tokens != (None, None)
        pairs = zip(self.tokens, other.tokens, strict=True)
        return all(one == another or not one or not another for one, another in pairs)

    def _meets(self, other: Call) -> bool:
        """Whether at least half of the shorter call lies within the other call."""
        together = min(self.end, other.end) - max(self.start, other.start)
        return together >= 0 and 2 * together >= min(self.end - self.start, other.end - other.start)

    def kept(self) -> Iterator[_Key]:
        """The keys by which the call is found."""
        yield from (("span", self.span), ("parent", self.parent))
        yield from self._recorded_by(self.scopes)

    def sought(self, scopes: Iterable[str]) -> Iterator[_Key]:
        """The keys of other spans that may record the call; `scopes`: all instrumentations."""
        yield from (("span", self.span), ("parent", self.span), ("span", self.parent))
        # Equal calls of one instrumentation are different calls.
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
    """Remembers the last calls, and which spans repeat the call of another span."""

    def __init__(self) -> None:
        self._calls = Recent[_Key, Call](MOST_CALLS, self._forget)
        self._known: dict[_Key, list[Call]] = {}
        self._repeats = Recent[_Key, None](MOST_CALLS)
        self._scopes: set[str] = set()
        self._begun_inside = Recent[_Key, tuple[_Begun, ...]](MOST_CALLS)
        # Reentrant, for a signal handler may start a span on the thread that is starting one.
        self._lock = threading.RLock()

    def announce(self, span: ReadableSpan) -> None:
        """Notes the parent of a call that our instrumentors record; the parent may end first."""
        scope, parent = span.instrumentation_scope, span.parent
        if parent is None or scope is None or not scope.name.startswith(_OURS):
            return
        attributes: Attributes = span.attributes or {}
        if is_model_call(attributes):
            key, begun = _key(parent), _begun(attributes)
            with self._lock:
                before = self._begun_inside.get(key, ())
                # An agent's calls are mostly of one sort, which is kept once.
                if begun not in before:
                    self._begun_inside[key] = (*before[1 - _MOST_ALIKE :], begun)

    def enter(self, spans: Iterable[ReadableSpan]) -> None:
        """Adds the model calls; of several spans of one call, our instrumentation's is kept."""
        read = ((span, current_attributes(span)) for span in spans)
        calls = [Call(span, attrs) for span, attrs in read if is_model_call(attrs)]
        for call in sorted(calls, key=lambda call: (not call.is_ours, not call.has_tokens)):
            inside = self._begun_inside.get(call.span, ())
            if not call.is_ours and any(call.is_made_of(each) for each in inside):
                self._repeats[call.span] = None
            elif call.span not in self._repeats:
                self._enter(call)

    def is_repeat(self, span: ReadableSpan) -> bool:
        """Whether another span already records this span's call. It must have been entered.

        A repeat stays in the tree, and is neither priced nor counted as a call.
        """
        return span_key(span) in self._repeats

    def _enter(self, call: Call) -> None:
        for key in call.sought(self._scopes):
            for known in self._known.get(key, ()):
                if known.span == call.span:
                    return
                # The known span has no cost if it has no tokens; then the new call must be priced.
                if known.is_same(call) and (known.has_tokens or not call.has_tokens):
                    known.scopes |= call.scopes
                    known.is_ours |= call.is_ours
                    self._repeats[call.span] = None
                    return
        if len(self._scopes) < _MOST_ALIKE:
            self._scopes |= call.scopes
        call.keys = [*call.kept()]
        for key in call.keys:
            # Most keys have a single call, and a deque with one item takes ten times the memory.
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
    """Remembers the spans that aren't sent, and their parents. Any thread may use it."""

    def __init__(self) -> None:
        self.unsent = Recent[SpanKey, SpanContext | None](MOST_UNSENT)

    def leave_out(self, span: ReadableSpan) -> None:
        """Notes that a span isn't sent, by what is known of it so far."""
        self.unsent[span_key(span)] = span.parent

    def include(self, span: ReadableSpan) -> None:
        """Notes that a span is sent after all."""
        if self.unsent:
            self.unsent.pop(span_key(span), None)

    def parent_of(self, span: ReadableSpan) -> SpanContext | None:
        """The nearest sent span around the span."""
        parent = span.parent
        for _ in range(_MOST_STEPS):
            if parent is None or (key := _key(parent)) not in self.unsent:
                break
            parent = self.unsent.get(key)
        return parent


def span_key(span: ReadableSpan) -> SpanKey:
    """The unique key of a span. Only spans made by hand have no context."""
    return (None, id(span)) if span.context is None else _key(span.context)


def _key(context: SpanContext) -> SpanKey:
    return context.trace_id, context.span_id


def _begun(attributes: Attributes) -> _Begun:
    """The operation and the models of a call.

    The operations that generate text all become `chat`; models have no provider in front of them.
    """
    operation = text(attributes, semconv.OPERATION_NAME) or ""
    found = (text(attributes, semconv.REQUEST_MODEL), text(attributes, semconv.RESPONSE_MODEL))
    models = frozenset(name.rpartition("/")[2] for name in found if name and name != "unknown")
    return "chat" if operation in _GENERATES else operation, models


def _may_be_equal(some: frozenset[str], others: frozenset[str]) -> bool:
    return not (some and others and some.isdisjoint(others))


_Address = tuple[object, object]
"""The endpoint and the key of a destination."""
_End = tuple[SpanKey, bool]
"""The start of a span if it is true, or its end."""
_running: dict[_Address, WeakSet[Owner]] = {}
_owned: dict[_Address, Recent[_End, object]] = {}


class Owner:
    """One exporter of a destination. Start and end of a span are owned separately."""

    def __init__(self, destination: _Address, *, is_on: bool) -> None:
        """`destination` is an endpoint and a key."""
        # Its mark on spans, which outlives the exporter.
        self._mark = object()
        self._exporters = _running.setdefault(destination, WeakSet())
        self._owners = _owned.setdefault(destination, Recent(MOST_OWNED))
        self._is_on = is_on
        if is_on:
            self._exporters.add(self)

    @property
    def is_alone(self) -> bool:
        """Whether no other exporter has the destination; then no owner is recorded."""
        return len(self._exporters) < 2

    def claim(self, span: ReadableSpan) -> bool:
        """Claims the span if nobody owns it; returns whether this exporter owns it.

        False if this exporter is switched off, or if the span began before the fork of this
        process.
        """
        if not self._is_on or origins.is_inherited(span):
            return False
        return self.is_alone or self._owners.setdefault(_end_key(span), self._mark) is self._mark

    def is_of_another(self, span: ReadableSpan) -> bool:
        """Whether another exporter, or the parent process, sends the span or has sent it."""
        owner = self._owners.get(_end_key(span), self._mark)
        return origins.is_inherited(span) or owner is not self._mark

    def stop(self) -> None:
        """Claims no more spans; the exporter still owns the spans that it has claimed."""
        self._exporters.discard(self)


def _end_key(span: ReadableSpan) -> _End:
    return span_key(span), span.end_time is None


class Origins:
    """Open spans of this process, held weakly, and the keys of spans inherited by a fork.

    Start times can't tell them apart: a span may be given a start time that is long past, and
    clocks are set back.
    """

    def __init__(self) -> None:
        self._begun: WeakValueDictionary[SpanKey, ReadableSpan] = WeakValueDictionary()
        self._inherited: frozenset[SpanKey] = frozenset()

    def begun(self, span: ReadableSpan) -> None:
        """Notes a span that starts. Never raises."""
        # A foreign class of span may not be held weakly.
        with suppress(TypeError):
            self._begun[span_key(span)] = span

    def is_inherited(self, span: ReadableSpan) -> bool:
        """Whether the span was noted before the fork of this process, or an earlier fork."""
        return bool(self._inherited) and span_key(span) in self._inherited

    def in_child(self) -> None:
        """Called in a forked child: all spans noted so far are inherited."""
        self._inherited |= frozenset(self._begun.keys())
        self._begun = WeakValueDictionary()


origins = Origins()
"""The spans of this process whose start an AgentPulse processor saw."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=origins.in_child)
