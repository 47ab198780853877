"""What a provider describes: an operation of its API, once, for every way to call it.

*Operation*: one kind of call (chat, embeddings, …): which request fields and which answer fields
become which attributes, and functions for what a path can't say.
*Accumulator*: rebuilds from the chunks of a stream what the plain call would have answered, so
that one description of the answer serves both.
*Routes*: which operation an HTTP method and path stand for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentpulse_instrumentation.errors import reported_error
from agentpulse_instrumentation.fields import Table
from agentpulse_instrumentation.messages import InputContent, Message

Attributes = dict[str, Any]


class Accumulator(Protocol):
    """The state of one stream. Called from one thread or task at a time."""

    def __init__(self, keeps_content: bool) -> None:
        """`keeps_content`: whether the text that passes is to be kept."""
        ...

    def add(self, chunk: Any) -> None:
        """Takes one chunk, a model or a dict. Microseconds count here."""
        ...

    def answer(self) -> Mapping[str, Any] | Any | None:
        """What the plain call would have returned, so far; None before the first chunk."""
        ...

    def is_complete(self) -> bool:
        """Whether the provider said that the answer is over; usage alone says nothing of that."""
        ...

    def reported_usage(self) -> bool:
        """Whether the provider said how many tokens the whole answer took."""
        ...

    def received_characters(self) -> int:
        """How much text came, for the estimate of an answer whose usage never came."""
        ...


def _nothing(_body: Mapping[str, Any], _into: Attributes) -> None:
    return None


def _no_more(_answer: Any, _into: Attributes) -> None:
    return None


def _no_choices(_answer: Any) -> list[str | None]:
    return []


def _no_input(_body: Mapping[str, Any]) -> InputContent:
    return InputContent()


def _no_output(_answer: Any) -> list[Message]:
    return []


_EMPTY = Table({})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a provider's API. Functions read; they never change what they are given."""

    name: str
    """`gen_ai.operation.name`."""
    request: Table = _EMPTY
    """Attributes from the JSON body."""
    more_from_request: Callable[[Mapping[str, Any], Attributes], None] = _nothing
    answer: Table = _EMPTY
    """Attributes from the answer."""
    more_from_answer: Callable[[Any, Attributes], None] = _no_more
    finish_reasons: Callable[[Any], list[str | None]] = _no_choices
    """One per choice, in order; None for a choice that was never finished."""
    failure: Callable[[Any], str | None] = reported_error
    """The `error.type` of an answer that says, with HTTP status 200, that the call failed."""
    constants: Mapping[str, str | bool] = field(default_factory=dict[str, "str | bool"])
    """Attributes that every call of this operation has."""
    accumulator: type[Accumulator] | None = None
    """For operations that stream; a stream without one is timed and nothing more."""
    input_content: Callable[[Mapping[str, Any]], InputContent] = _no_input
    output_content: Callable[[Any], list[Message]] = _no_output
    usage_on_request: bool = False
    """Streams report their usage only when asked by `stream_options.include_usage`."""
    resource_attribute: str | None = None
    """The attribute that the id in the path becomes, for operations on one resource."""
    estimates_usage: bool = False
    """Whether text in and out is what is billed, so that missing usage can be estimated."""


class Routes:
    """Finds the operation of a request by its HTTP method and path.

    Paths are written as the client library's resources write them (`/chat/completions`), with
    `{id}` for a resource. A request may come with a query, without the leading slash, or as a full
    URL (`client.post(...)`).
    """

    __slots__ = ("_exact", "_loose")

    def __init__(self, operations: Iterable[tuple[str, str, Operation]]) -> None:
        self._exact: dict[tuple[str, str], tuple[Operation, None]] = {}
        self._loose: list[tuple[str, re.Pattern[str], Operation]] = []
        for method, path, operation in operations:
            self._exact[method, path] = operation, None
            pattern = re.escape(path).replace(r"\{id\}", r"([A-Za-z0-9_.:-]+)")
            self._loose.append(
                (method, re.compile(rf"^(?:https?://[^?]*)?/?{pattern[1:]}/?$"), operation)
            )

    def find(self, method: str, url: str) -> tuple[Operation, str | None] | None:
        """The operation and the resource's id in the path; None for a request that isn't ours."""
        found = self._exact.get((method, url))
        if found is not None:
            return found
        method, path = method.lower(), url.partition("?")[0]
        for wanted, pattern, operation in self._loose:
            if wanted == method and (match := pattern.match(path)):
                return operation, match[1] if match.lastindex else None
        return None
