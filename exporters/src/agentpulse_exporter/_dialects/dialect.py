"""A dialect: the names by which one family of instrumentations records a call.

A dialect is a table of names, and a small function (a quirk) for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import Attributes, count, decoded, provider_name, text

Fields = dict[str, object]
"""The attributes by their current names, while they are being put together."""
Quirk = Callable[[Fields], None]
_CACHED = (semconv.USAGE_CACHE_READ_INPUT_TOKENS, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The spans of one family of instrumentations.

    Attributes:
        scopes: How the names of its instrumentation scopes start.
        marks: How names of attributes start that only its spans have.
        names: The current name, and its names for the same thing, the best one first.
        quirks: The rest of the translation, in this order.
        content: The translation of content, where messages are captured.
    """

    scopes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    quirks: tuple[Quirk, ...] = ()
    content: tuple[Quirk, ...] = ()

    def matches(self, scope: str, attributes: Attributes) -> bool:
        """Whether a span is one of these."""
        if self.scopes and scope.startswith(self.scopes):
            return True
        return bool(self.marks) and any(name.startswith(self.marks) for name in attributes)

    def current(self, attributes: Attributes, *, with_content: bool = False) -> Attributes:
        """The attributes by their current names, messages only with content."""
        fields: Fields = dict(attributes)
        for name, theirs in self.names.items():
            if name not in fields:
                found = next((attributes[each] for each in theirs if each in attributes), None)
                set_default(fields, name, found)
        for quirk in (*self.quirks, *(self.content if with_content else ())):
            quirk(fields)
        return fields


def set_default(fields: Fields, name: str, value: object) -> None:
    """Sets a field that has no value yet; None is no value."""
    if value is not None:
        fields.setdefault(name, value)


def kind(attribute: str, operations: Mapping[str, str]) -> Quirk:
    """Reads the kind of a span: an operation of the conventions, or else a span kind of ours.

    The kind may be JSON, as all of MLflow's attributes are.
    """

    def take(fields: Fields) -> None:
        value = text(fields, attribute)
        if value is not None:
            value = str(decoded(value, value))
            operation = operations.get(value.upper())
            name = semconv.OPERATION_NAME if operation else semconv.SPAN_KIND
            fields.setdefault(name, operation or value.lower())

    return take


def provider(fields: Fields) -> None:
    """Gives the provider its one name."""
    name = text(fields, semconv.PROVIDER_NAME)
    if name is not None:
        fields[semconv.PROVIDER_NAME] = provider_name(name)


def one_reason(attribute: str) -> Quirk:
    """Reads the one finish reason that an attribute holds."""

    def take(fields: Fields) -> None:
        reason = text(fields, attribute)
        if reason is not None:
            fields.setdefault(semconv.RESPONSE_FINISH_REASONS, (reason.strip('"'),))

    return take


def inclusive_input(fields: Fields) -> None:
    """Adds cached tokens to the input where they can't be part of it."""
    cached = sum(count(fields, name) or 0 for name in _CACHED)
    total = count(fields, semconv.USAGE_INPUT_TOKENS)
    if total is not None and cached > total:
        fields[semconv.USAGE_INPUT_TOKENS] = total + cached


def anthropic_input(fields: Fields, cached: tuple[str, ...] = _CACHED) -> None:
    """Adds cached tokens to the input of Anthropic, whose own figure excludes them."""
    total = count(fields, semconv.USAGE_INPUT_TOKENS)
    if fields.get(semconv.PROVIDER_NAME) == "anthropic" and total is not None:
        fields[semconv.USAGE_INPUT_TOKENS] = total + sum(count(fields, n) or 0 for n in cached)


def own_cost(attribute: str) -> Quirk:
    """Reads the instrumentation's own figure of a call's cost. Many write 0 where it is unknown."""

    def take(fields: Fields) -> None:
        cost = fields.get(attribute)
        if isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0:
            fields.setdefault(semconv.COST_FALLBACK, cost)

    return take


def is_no_call(fields: Fields) -> None:
    """Makes it a span that is not a model call, but stays in the tree."""
    operation = fields.pop(semconv.OPERATION_NAME, None)
    fields.setdefault(semconv.SPAN_KIND, operation if isinstance(operation, str) else "span")
