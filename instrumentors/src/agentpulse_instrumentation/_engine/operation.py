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
from typing import Any, Protocol, cast

from agentpulse_instrumentation._engine.body import Table, get, items
from agentpulse_instrumentation._engine.media import without_bodies
from agentpulse_instrumentation._engine.patching import shield

# What the conventions ask to know of an error, without its text.
#
# An error is an exception, or an answer with HTTP status 200 that reports one: a server that has
# begun to answer has no other way to report that it failed.

# A provider's code becomes an attribute as it is, so it must look like one and not like a sentence.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_STATUSES = range(400, 600)
UNKNOWN = "_OTHER"
"""The conventions' word for an error that has no code."""

ErrorReader = Callable[[BaseException], str | None]
"""Reads the provider's code from an exception of a library."""
_READ_ERROR = shield("read the code of an error")
error_readers: dict[str, ErrorReader] = {}
"""By the package whose exceptions they read. The fields of anybody else's may hold content."""


def error_type(error: BaseException) -> str:
    """`error.type` by the conventions: the provider's own code, else the exception's class name."""
    for each in type(error).__mro__:
        read = error_readers.get(each.__module__.partition(".")[0])
        if read is not None:
            with _READ_ERROR:
                if code := read(error):
                    return str(code)
            break
    return type(error).__name__


def http_status(error: BaseException) -> int | None:
    """The HTTP status of an API error, or None for one without (connection errors, time-outs)."""
    found = (own(error, name) for name in ("status_code", "status", "http_status"))
    return next((each for each in found if isinstance(each, int) and each in _STATUSES), None)


def own(error: BaseException, name: str) -> Any:
    """A field of the exception's own data: a property of a stranger's class could do anything."""
    return getattr(error, "__dict__", {}).get(name)


def code_of(*candidates: Any) -> str | None:
    """The first that looks like a code."""
    for candidate in candidates:
        if isinstance(candidate, str) and _CODE.fullmatch(candidate):
            return candidate
    return None


def status_of(code: Any) -> str | None:
    """The HTTP status that some have as the code of an error."""
    return str(code) if str(code).isdecimal() and int(code) in _STATUSES else None


def api_error(error: BaseException) -> str | None:
    """The code of an exception of a generated client, as the provider's answer has it.

    openai puts it on the exception (`code`, `type`), so does anthropic (`type`); groq, and older
    versions of anthropic, have it in the body alone: in its envelope, or bare for an error that a
    stream reports after its start.
    """
    body, code, kind = (own(error, name) for name in ("body", "code", "type"))
    envelope = get(body, "error") or body
    found = code_of(code, kind, get(envelope, "code"), get(envelope, "type"))
    return status_of(code) if found is None and http_status(error) is None else found


def reported_error(answer: Any) -> str | None:
    """The `error.type` of an answer, or of an event of one, that reports an error; else None.

    OpenAI and Anthropic have an object `error`, vLLM is one itself; OpenRouter reports an error of
    the provider behind it in the choice that it ended.
    """
    error = get(answer, "error")
    if error:
        return _reported(error)
    if "error" in (get(answer, "type"), get(answer, "object")):
        return _reported(answer)
    for choice in items(answer, "choices"):
        error = get(choice, "error")
        if error or get(choice, "finish_reason") == "error":
            return _reported(error)
    return None


def _reported(error: Any) -> str:
    code, kind = get(error, "code"), get(error, "type")
    return code_of(code, None if kind == "error" else kind) or status_of(code) or UNKNOWN


INFERENCE = frozenset({"chat", "text_completion", "generate_content"})
"""The operations that are inferences."""

Attributes = dict[str, Any]
Part = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InputContent:
    """The content of a request, in the order in which it was sent."""

    messages: list[Message] = field(default_factory=list[Message])
    system: list[Part] = field(default_factory=list[Part])
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


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
        """Whether the provider declared the answer over; its usage alone doesn't."""
        ...

    def reported_usage(self) -> bool:
        """Whether the provider reported the tokens of the whole answer."""
        ...

    def received_characters(self) -> int:
        """How much text came, for the estimate of an answer whose usage never came."""
        ...


_EMPTY = Table({})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a provider's API. Functions read; they never change what they are given."""

    name: str
    """`gen_ai.operation.name`."""
    request: Table = _EMPTY
    """Attributes from the JSON body."""
    answer: Table = _EMPTY
    """Attributes from the answer."""
    more_from_answer: Callable[[Any, Attributes], None] = lambda _answer, _into: None
    finish_reasons: Callable[[Any], list[str | None]] = lambda _answer: []
    """One per choice, in order; None for a choice that was never finished."""
    failure: Callable[[Any], str | None] = reported_error
    """The `error.type` of an answer with HTTP status 200 that reports that the call failed."""
    constants: Mapping[str, str | bool] = field(default_factory=dict[str, "str | bool"])
    """Attributes that every call of this operation has."""
    accumulator: type[Accumulator] | None = None
    """For operations that stream; a stream without one is timed and nothing more."""
    input_content: Callable[[Mapping[str, Any]], InputContent] = lambda _body: InputContent()
    output_content: Callable[[Any], list[Message]] = lambda _answer: []
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

    def __init__(self, *operations: tuple[Operation, str, *tuple[str, ...]]) -> None:
        """Takes rows of an operation, its method, and the paths that it has."""
        self._exact: dict[tuple[str, str], tuple[Operation, None]] = {}
        self._loose: list[tuple[str, re.Pattern[str], Operation]] = []
        for operation, method, *paths in operations:
            for path in paths:
                self._exact[method, path] = operation, None
                pattern = re.escape(path[1:]).replace(r"\{id\}", r"([A-Za-z0-9_.:-]+)")
                loose = re.compile(rf"^(?:https?://[^?]*)?/?{pattern}/?$")
                self._loose.append((method, loose, operation))

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


# Token counts for streams whose usage was never reported.
#
# They were closed early, cut, or came from a host that doesn't report any. An estimate from the
# length of the text, always labelled as one (`agentpulse.usage.estimated`). Providers' guides give
# four characters a token for English text (https://help.openai.com/en/articles/4936856); structure
# adds a few tokens a message.

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_SHORTEST_BODY = 64
"""Characters of text in which there may be the body of a file, which isn't billed by its length."""
_CONTENT_FIELDS = ("messages", "input", "prompt", "system", "instructions", "tools")


def tokens(characters: int) -> int:
    """Tokens of that much text."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def input_tokens(body: Mapping[str, Any]) -> int | None:
    """Tokens of a request's text: messages, instructions and tool definitions.

    None for a request with other fields than those of the known APIs.
    """
    found = [body[name] for name in _CONTENT_FIELDS if name in body]
    if not found:
        return None
    return tokens(sum(map(_characters, found))) + _TOKENS_PER_MESSAGE * len(items(body, "messages"))


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value if len(value) < _SHORTEST_BODY else without_bodies(value))
    nodes = cast("dict[str, Any]", value).values() if isinstance(value, dict) else value
    is_list = isinstance(value, dict | list | tuple)
    return sum(map(_characters, cast("Iterable[Any]", nodes))) if is_list else 0
