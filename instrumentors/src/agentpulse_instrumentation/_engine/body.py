"""The JSON of requests and answers: its fields, tables of these, and the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from agentpulse_instrumentation._engine.patching import shield

# Reading requests and answers by tables of paths.
#
# A node is a JSON object: a dict, or the pydantic model a client library made of one. Paths are
# read from the `__dict__` of a model, because asking a model for an attribute it lacks costs 3 µs
# and dumping it more.

Value = str | bool | int | float | list[str]
Convert = Callable[[Any], Value | None]


def text(value: Any) -> str | None:
    """A non-empty string."""
    return value if isinstance(value, str) and value else None


def integer(value: Any) -> int | None:
    """A whole number that is not a bool."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count(value: Any) -> int | None:
    """A whole number above zero: some parts of the usage are reported as 0 where none apply."""
    return value if isinstance(value, int) and value > 0 else None


def double(value: Any) -> float | None:
    """A number as a float, as the conventions ask for: `temperature=1` is 1.0."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def texts(value: Any) -> list[str] | None:
    """A list of strings, or one string as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        found = [item for item in cast("list[Any]", value) if isinstance(item, str)]
        return found or None
    return None


_CONVERSIONS: Mapping[Any, Convert] = {str: text, int: integer, float: double, list[str]: texts}


class Table:
    """Span attributes, each with the path it is read from and its type, or a conversion to that.

    A value of another type than that sets nothing, so that an answer of a later API version gives
    no attribute rather than a wrong one. Of two paths for one attribute the later one wins.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, tuple[str, Convert]]) -> None:
        """Takes `{"usage.prompt_tokens": (attribute, int), …}`."""
        own: dict[str, Any] = {}
        for path, row in rows.items():
            parent, _, rest = path.partition(".")
            if rest:
                own.setdefault(parent, {})[rest] = row
            else:
                own[parent] = row
        self._rows: tuple[tuple[str, str, Any, Any], ...] = tuple(
            (name, "", None, Table(cast("dict[str, Any]", row)).read)
            if isinstance(row, dict)
            else (name, *row, _CONVERSIONS.get(row[1], row[1]))
            for name, row in own.items()
        )

    def __or__(self, other: Table) -> Table:
        """The rows of both; where they have one attribute, `other` wins."""
        both = Table({})
        both._rows = (*self._rows, *other._rows)
        return both

    def read(self, node: Any, into: dict[str, Any]) -> None:
        """Adds the attributes that `node` gives to `into`.

        This runs for every object in every answer, so nothing is called for a field that has its
        attribute's type already.
        """
        declared, extra = (node, None) if node.__class__ is dict else _fields(node)
        for name, attribute, kind, convert in self._rows:
            value = declared.get(name)
            if value is None and extra:
                value = extra.get(name)
            if value.__class__ is kind:
                if value != "":
                    into[attribute] = value
            elif value is None:
                continue
            elif not attribute:
                convert(value, into)
            else:
                with _CONVERT:
                    if (converted := convert(value)) is not None:
                        into[attribute] = converted


_CONVERT = shield("convert a field")
_NOTHING: dict[str, Any] = {}


def _fields(node: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    # Pydantic keeps the fields that a model does not declare apart: a compatible host's own
    # figures are there.
    try:
        return node.__dict__, node.__pydantic_extra__
    except AttributeError:
        if isinstance(node, dict):
            return cast("dict[str, Any]", node), None
        return getattr(node, "__dict__", _NOTHING), None


def fields(node: Any) -> Mapping[str, Any]:
    """All fields of a node, also those that its model does not declare."""
    declared, extra = (node, None) if node.__class__ is dict else _fields(node)
    return {**declared, **extra} if extra else declared


def get(node: Any, name: str) -> Any:
    """The field `name` of a node, or None."""
    declared, extra = (node, None) if node.__class__ is dict else _fields(node)
    value = declared.get(name)
    if value is None and extra:
        return extra.get(name)
    return value


def items(node: Any, name: str) -> list[Any]:
    """The list in the field `name` of a node; empty where there is none."""
    value = get(node, name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def listed(value: Any) -> list[Any]:
    """A list as it is; one text as a list of it; nothing for anything else."""
    if isinstance(value, str):
        return [value]
    return cast("list[Any]", value) if isinstance(value, list) else []


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that JSON stands for; None where it stands for none, or is no JSON."""
    start = text.lstrip()[:1]
    if start != (b"{" if isinstance(start, bytes) else "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


# Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

LONGEST_EVENT = 8 * 2**20
"""Bytes that are held while an event is incomplete; a longer event is let go."""
_DONE = b"[DONE]"


class EventDecoder:
    """Cuts bytes into events and gives the JSON object in their data; others are passed over."""

    def __init__(self) -> None:
        self.is_done = False
        """Whether the server declared the stream over (`data: [DONE]`)."""
        self._rest = b""
        self._size = 0
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Takes the next bytes and gives the events that they complete, but for pings."""
        # A lone CR also ends a line by the standard; no provider sends it, and CRLF ends in LF.
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_EVENT else b""
        for line in lines:
            event = self._line(line.rstrip(b"\r"))
            # Anthropic's client hides the events that only keep the connection open.
            if event is not None and event.get("type") != "ping":
                yield event

    def _line(self, line: bytes) -> dict[str, Any] | None:
        if line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= LONGEST_EVENT:
                self._data.append(line[5:].lstrip(b" "))
        if line:
            return None
        data, size = b"\n".join(self._data), self._size
        self._data, self._size = [], 0
        self.is_done = self.is_done or data.startswith(_DONE)
        return json_object(data) if size <= LONGEST_EVENT else None
