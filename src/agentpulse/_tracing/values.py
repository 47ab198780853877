"""Values of a user's program as span attributes, without running a line of the user's code.

No `str`, no `repr`, no property: an object's own code may raise, block or never end. What JSON has
no word for is told by its type. Texts, depth and size are bounded before anything is copied. Of the
body of a file or an image, its media type and size are recorded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._wire.json import MAX_LABEL, clean, plain
from agentpulse_exporter._wire.media import without_bodies

MAX_JSON = 8_192
"""Characters of one value as JSON."""
_MAX_TEXT = 4_096
_BUDGETS = ((2_048, 512), (256, 256), (64, 64))
"""Characters of a text and number of values, tried in turn until the JSON is small."""
_MAX_WHOLE = 2**63
_MAX_DEPTH = 6
_SPELT = {
    *(("datetime", name) for name in ("datetime", "date", "time", "timedelta")),
    *(("uuid", "UUID"), ("decimal", "Decimal")),
    *(("pathlib", f"{name}Path") for name in ("", "Posix", "Windows", "Pure")),
    *(("pathlib._local", f"{name}Path") for name in ("", "Posix", "Windows")),
}
"""Types of the standard library whose text says it all, and runs no code but its own."""


def attribute(value: object) -> Any:
    """The value as OpenTelemetry takes it: as it is, or as JSON."""
    exact = _exact(value, _MAX_TEXT)
    if isinstance(exact, str):
        return clean(_shown(value, exact), _MAX_TEXT)
    whole = isinstance(exact, int) and not -_MAX_WHOLE <= exact < _MAX_WHOLE
    return json_text(value) if exact is None or whole else exact


def label(value: object) -> str:
    """A name, of whatever was given as one."""
    exact = _exact(value, MAX_LABEL)
    return f"<{type(value).__name__}>" if exact is None else clean(str(exact), MAX_LABEL)


def text_of(error: BaseException) -> str:
    """What an exception says. Its class may be the user's, whose `__str__` may raise anything."""
    try:
        text = str(error)
        return clean(_shown(text, text[: _MAX_TEXT + 1]), _MAX_TEXT)
    except BaseException:  # noqa: BLE001  # one that is on its way must not be replaced
        return f"<{type(error).__name__}>"


def result_text(value: object) -> Any:
    """The result of a session as an attribute that reads back as what it was."""
    told = attribute(value)
    # A text that might be taken for JSON becomes some, which holds that text.
    looks_like_json = isinstance(told, str) and told.lstrip()[:1] in ("{", "[", '"')
    return json.dumps(told) if looks_like_json and issubclass(type(value), str) else told


def json_text(value: object) -> str:
    """The value as JSON of at most `MAX_JSON` characters; `"…"` in place of what is too large."""
    text = "null"
    for longest, values in _BUDGETS:
        # Cut before it is copied: a document of megabytes costs no more than its start.
        told = without_bodies(_Bounded(longest, values).told(value, _MAX_DEPTH))
        text = json.dumps(plain(told, limit=longest))
        if len(text) <= MAX_JSON:
            return text
    return json.dumps(f"<{type(value).__name__}>")


def data_attributes(data: Mapping[str, object]) -> dict[str, Any]:
    """The fields of an event as attributes of the span that it travels as."""
    told: dict[str, Any] = {}
    for name, value in data.items():
        if value is None:
            continue
        simple = _exact(value, 1) is not None
        prefix = semconv.DATA_PREFIX if simple else semconv.JSON_PREFIX
        told[prefix + label(name)] = attribute(value)
    return told


def _exact(value: object, longest: int) -> str | bool | int | float | None:
    """What a text, a number or a switch is, whatever its class makes of it; None for all else.

    Only the value's type is asked: `isinstance` and `__class__` may be the user's code.
    """
    kind = type(value)
    if issubclass(kind, str):
        return str.__getitem__(cast("str", value), slice(longest + 1))
    if kind is bool:
        return cast("bool", value)
    if issubclass(kind, int):
        return int.__index__(cast("int", value))
    if issubclass(kind, float):
        return float.__float__(cast("float", value))
    if (kind.__module__, kind.__qualname__) in _SPELT:
        return str(value)[: longest + 1]
    return None


def _shown(value: object, start: str) -> str:
    """The start of a text without the bodies of files and images in it."""
    length = str.__len__(cast("str", value)) if issubclass(type(value), str) else len(start)
    return without_bodies(start, beyond=length - len(start))


def _size(value: object) -> int | None:
    """How many bytes there are; None for what holds none."""
    kind = type(value)
    if issubclass(kind, bytes):
        return bytes.__len__(cast("bytes", value))
    if issubclass(kind, bytearray):
        return bytearray.__len__(cast("bytearray", value))
    return None


class _Bounded:
    """The part of a value that is looked at: so many values, texts so long, and so deep."""

    def __init__(self, longest: int, values: int) -> None:
        self._longest = longest
        self._values = values
        self._characters = 2 * MAX_JSON

    def told(self, value: object, depth: int) -> object:
        """A copy of that part, made of plain objects only."""
        self._values -= 1
        if value is None:
            return None
        exact = _exact(value, min(self._longest, max(self._characters, 0)))
        if exact is not None:
            self._characters -= len(exact) if isinstance(exact, str) else 8
            return _shown(value, exact) if isinstance(exact, str) else exact
        size = _size(value)
        if size is not None:
            return f"<{size} bytes>"
        if not depth or not self._has_room:
            return "…"
        fields = _fields(value)
        if fields is not None:
            return self._object(fields, depth)
        items = _items(value)
        if items is not None:
            return self._list(items, depth)
        return f"<{type(value).__name__}>"

    @property
    def _has_room(self) -> bool:
        return self._values > 0 and self._characters > 0

    def _object(self, fields: Iterator[tuple[object, object]], depth: int) -> dict[str, object]:
        told: dict[str, object] = {}
        for name, item in fields:
            if not self._has_room:
                told["…"] = "…"
                break
            told[label(name)] = self.told(item, depth - 1)
        return told

    def _list(self, items: Iterator[object], depth: int) -> list[object]:
        told: list[object] = []
        for item in items:
            if not self._has_room:
                told.append("…")
                break
            told.append(self.told(item, depth - 1))
        return told


def _items(value: object) -> Iterator[object] | None:
    """What a list, a tuple or a set holds."""
    kind = type(value)
    bases: tuple[Any, ...] = (list, tuple, set, frozenset)
    for base in bases:
        if issubclass(kind, base):
            return base.__iter__(value)
    return None


def _fields(value: object) -> Iterator[tuple[object, object]] | None:
    """What a mapping, a dataclass or a pydantic model holds."""
    kind = type(value)
    if issubclass(kind, dict):
        return _pairs(value)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__pydantic_fields__"):
        try:
            held: object = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return None
        if type(held) is dict:
            return _pairs(held)
    return None


def _pairs(mapping: Any) -> Iterator[tuple[object, object]]:
    return iter(dict[object, object].items(mapping))
