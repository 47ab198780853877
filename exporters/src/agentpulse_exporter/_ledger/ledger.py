"""One call, one cost: which spans tell of a call of a model that another span has told of already.

Instrumentations stack: a framework's span, a second vendor's and the client's own may all tell of
one call, each with the tokens on it. Where the instrumentations know of each other they leave that
to one of them; this is for all the others, at the one place that sees every span.

Two spans tell of the same call where they carry the same response id in one trace, or in two
traces at the same time. Where one of them carries no id, they do so if nothing that both tell of
model and tokens differs, and one is the other's parent, or they come from different
instrumentations and most of one lies within the other. Each instrumentation tells of a call once,
so of several equal calls at the same time each is matched with one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._pricing.cost import is_model_call
from agentpulse_exporter._semconv import count, text

MOST_CALLS = 5_000
"""Calls that are remembered, the last ones."""
_MOST_ALIKE = 128
"""Calls with the same id, or of equal model and tokens, that are looked at; the last ones."""
_OURS = "agentpulse_instrumentation."
_GENERATES = ("text_completion", "generate_content")
_Key = tuple[object, ...]
_Begun = tuple[str, frozenset[str]]
"""The operation and the models of a call, as far as its start tells."""


@dataclass(eq=False, slots=True)
class Call:
    """What identifies a call, by the span that tells of it.

    `scopes` are the instrumentations that have told of it.
    """

    span: _Key
    parent: _Key | None
    response_id: str | None
    operation: str
    models: frozenset[str]
    tokens: tuple[int | None, int | None]
    start: int
    end: int
    scopes: set[str]
    keys: list[_Key] = field(default_factory=list[_Key])
    """What it was remembered by when it was told of first."""

    @classmethod
    def of(cls, span: ReadableSpan, attributes: Mapping[str, object]) -> Call:
        """The call that a span tells of."""
        scope = span.instrumentation_scope
        return cls(
            span=_span_key(span),
            parent=None if span.parent is None else (span.parent.trace_id, span.parent.span_id),
            response_id=text(attributes, semconv.RESPONSE_ID),
            operation=_operation(attributes),
            models=_models(attributes),
            tokens=(
                count(attributes, semconv.USAGE_INPUT_TOKENS),
                count(attributes, semconv.USAGE_OUTPUT_TOKENS),
            ),
            start=span.start_time or 0,
            end=span.end_time or 0,
            scopes={"" if scope is None else scope.name},
        )

    @property
    def has_tokens(self) -> bool:
        """Whether it tells of any tokens."""
        return any(self.tokens)

    @property
    def is_ours(self) -> bool:
        """Whether our own instrumentors told of it, which know most of a call."""
        return any(scope.startswith(_OURS) for scope in self.scopes)

    def is_same(self, other: Call) -> bool:
        """Whether both are one call, told of by two spans."""
        told_by_others = self.scopes.isdisjoint(other.scopes)
        one_trace = self.span[0] == other.span[0]
        related = self.span == other.parent or self.parent == other.span
        # Ours know of each other, so what two of them tell is rarely one call.
        ours = self.is_ours and other.is_ours
        if self.response_id is not None and other.response_id is not None:
            # Some servers of models give the same few ids again and again.
            if self.response_id != other.response_id:
                return False
            if not one_trace:
                return told_by_others and not ours and self._meets(other)
            if ours:
                return related or (told_by_others and self.tokens == other.tokens)
            return told_by_others or self.tokens == other.tokens
        if not self._agrees(other, strictly=not one_trace):
            return False
        return related or (told_by_others and not ours and self._meets(other))

    def is_made_of(self, begun: _Begun) -> bool:
        """Whether a call that began so, inside this one, may be its own."""
        operation, models = begun
        return self.operation == operation and not (
            self.models and models and self.models.isdisjoint(models)
        )

    def _agrees(self, other: Call, *, strictly: bool) -> bool:
        """Whether nothing differs that both tell; `strictly`, whether both tell the same."""
        if self.operation != other.operation:
            return False
        if self.models and other.models and self.models.isdisjoint(other.models):
            return False
        if strictly:
            return self.tokens == other.tokens != (None, None)
        pairs = zip(self.tokens, other.tokens, strict=True)
        return all(one == another or not one or not another for one, another in pairs)

    def _meets(self, other: Call) -> bool:
        """Whether they took place at the same time, but for what lies around the shorter one."""
        together = min(self.end, other.end) - max(self.start, other.start)
        return together >= 0 and 2 * together >= min(self.end - self.start, other.end - other.start)

    def kept(self) -> Iterator[_Key]:
        """What it is remembered by."""
        yield "span", self.span
        if self.parent is not None:
            yield "parent", self.parent
        if self.response_id is not None:
            yield "response", self.response_id
        for scope in self.scopes:
            yield from self._told_by(scope)

    def sought(self, scopes: Iterable[str]) -> Iterator[_Key]:
        """What other spans of it would be remembered by; `scopes` are all instrumentations."""
        yield "span", self.span
        yield "parent", self.span
        if self.parent is not None:
            yield "span", self.parent
        if self.response_id is not None:
            yield "response", self.response_id
        for scope in scopes:
            # Equal calls of one instrumentation are as many calls.
            if scope not in self.scopes:
                yield from self._told_by(scope)

    def _told_by(self, scope: str) -> Iterator[_Key]:
        if self.tokens != (None, None):
            for model in self.models:
                yield "usage", model, self.tokens, scope
        yield "trace", self.span[0], scope


class Ledger:
    """Remembers the last calls that were told of."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._known: dict[_Key, list[Call]] = {}
        self._repeats: OrderedDict[_Key, None] = OrderedDict()
        self._scopes: set[str] = set()
        self._told_inside: OrderedDict[_Key, tuple[_Begun, ...]] = OrderedDict()
        # Reentrant, for a signal handler may start a span on the thread that is starting one.
        self._lock = threading.RLock()

    def announce(self, span: ReadableSpan) -> None:
        """Notes inside which span one of our instrumentors tells of a call: that may end first."""
        scope, parent = span.instrumentation_scope, span.parent
        if parent is None or scope is None or not scope.name.startswith(_OURS):
            return
        attributes: Mapping[str, object] = span.attributes or {}
        if is_model_call(attributes):
            key = parent.trace_id, parent.span_id
            with self._lock:
                begun = _operation(attributes), _models(attributes)
                before = self._told_inside.get(key, ())
                # An agent's calls are mostly of one sort, which is kept once.
                if begun not in before:
                    self._told_inside[key] = (*before[1 - _MOST_ALIKE :], begun)
                if len(self._told_inside) > MOST_CALLS:
                    self._told_inside.popitem(last=False)

    def enter(self, calls: Iterable[tuple[ReadableSpan, Mapping[str, object]]]) -> None:
        """Takes down calls that are told of together; of several spans of one, ours is its own."""
        told = [Call.of(span, attributes) for span, attributes in calls]
        for call in sorted(told, key=lambda call: (not call.is_ours, not call.has_tokens)):
            inside = self._told_inside.get(call.span, ())
            if not call.is_ours and any(call.is_made_of(each) for each in inside):
                self._repeat(call)
            elif call.span not in self._repeats:
                self._enter(call)

    def is_repeat(self, span: ReadableSpan) -> bool:
        """Whether the call of a span, which was taken down, is that of another span."""
        return _span_key(span) in self._repeats

    def clear(self) -> None:
        """Forgets all of them."""
        self._calls.clear()
        self._scopes.clear()
        self._told_inside = OrderedDict()
        self._lock = threading.RLock()
        self._known.clear()
        self._repeats.clear()

    def _enter(self, call: Call) -> None:
        for key in call.sought(self._scopes):
            for known in self._known.get(key, ()):
                if known.span == call.span:
                    return
                # One that was told of without tokens has no cost, so this one must be priced.
                if known.is_same(call) and (known.has_tokens or not call.has_tokens):
                    known.scopes |= call.scopes
                    self._repeat(call)
                    return
        self._keep(call)

    def _repeat(self, call: Call) -> None:
        self._repeats[call.span] = None
        while len(self._repeats) > MOST_CALLS:
            self._repeats.popitem(last=False)

    def _keep(self, call: Call) -> None:
        if len(self._scopes) < _MOST_ALIKE:
            self._scopes |= call.scopes
        call.keys = [*call.kept()]
        for key in call.keys:
            # Most keys are of one call alone, and a deque of one takes ten times the memory.
            alike = self._known.setdefault(key, [])
            alike.append(call)
            del alike[:-_MOST_ALIKE]
        self._calls.append(call)
        while len(self._calls) > MOST_CALLS:
            self._forget(self._calls.popleft())

    def _forget(self, call: Call) -> None:
        for key in call.keys:
            alike = self._known.get(key)
            if alike and alike[0] is call:
                del alike[0]
            if not alike:
                self._known.pop(key, None)


def _span_key(span: ReadableSpan) -> _Key:
    context = span.context
    return (None, id(span)) if context is None else (context.trace_id, context.span_id)


def _operation(attributes: Mapping[str, object]) -> str:
    """The operation; those that make text are called by different names."""
    operation = text(attributes, semconv.OPERATION_NAME) or ""
    return "chat" if operation in _GENERATES else operation


def _models(attributes: Mapping[str, object]) -> frozenset[str]:
    """The models that are named; some put the provider before, some have a word for not knowing."""
    found = (text(attributes, semconv.REQUEST_MODEL), text(attributes, semconv.RESPONSE_MODEL))
    return frozenset(name.rpartition("/")[2] for name in found if name and name != "unknown")
