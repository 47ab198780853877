"""What a dialect is: its marks, its words, and a small function for each thing words can't say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import count

Attributes = Mapping[str, object]
Told = dict[str, object]
"""The attributes in the current words, while they are being put together."""
Quirk = Callable[[Told], None]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The spans of one family of instrumentations.

    Attributes:
        scopes: How the names of its instrumentation scopes start.
        marks: How names of attributes start that only its spans have.
        words: The current name, and its names for the same thing, the best one first.
        quirks: What is left to do, in this order.
        content: What is left to do where messages are captured.
    """

    scopes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    quirks: tuple[Quirk, ...] = ()
    content: tuple[Quirk, ...] = ()

    def claims(self, scope: str, attributes: Attributes) -> bool:
        """Whether a span is one of these."""
        if self.scopes and scope.startswith(self.scopes):
            return True
        return bool(self.marks) and any(name.startswith(self.marks) for name in attributes)

    def current(self, attributes: Attributes, *, with_content: bool = False) -> Attributes:
        """The attributes in the current words, messages only with content."""
        told: Told = dict(attributes)
        for name, theirs in self.words.items():
            if name not in told:
                found = next((attributes[each] for each in theirs if each in attributes), None)
                if found is not None:
                    told[name] = found
        for quirk in self.quirks:
            quirk(told)
        for quirk in self.content if with_content else ():
            quirk(told)
        return told


def json_object(value: object) -> dict[str, Any]:
    """The object that JSON text stands for; an empty one for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def inclusive_input(told: Told) -> None:
    """Cached tokens are part of the input: where they can't be, they were left out of it."""
    read = count(told, semconv.USAGE_CACHE_READ_INPUT_TOKENS) or 0
    written = count(told, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS) or 0
    total = count(told, semconv.USAGE_INPUT_TOKENS)
    if total is not None and read + written > total:
        told[semconv.USAGE_INPUT_TOKENS] = total + read + written


def own_cost(name: str) -> Quirk:
    """What the instrumentation thinks a call cost. Many write 0 where they don't know."""

    def take(told: Told) -> None:
        cost = told.get(name)
        if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0:
            told.setdefault(semconv.COST_FALLBACK, cost)

    return take


def is_no_call(told: Told) -> None:
    """Makes it a span that is not a call of a model, which keeps its place in the tree."""
    operation = told.pop(semconv.OPERATION_NAME, None)
    told.setdefault(semconv.SPAN_KIND, operation if isinstance(operation, str) else "span")
