"""Values of a user's program as span attributes, without running a line of the user's code.

No `str`, no `repr`, no property: an object's own code may raise, block or never end. A value that
JSON has no type for is recorded by its own type. Texts, depth and size are bounded before anything
is copied. Of the body of a file or an image, its media type and size are recorded.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, takewhile
from types import MemberDescriptorType
from typing import Any, cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._values import MAX_LABEL, clean, plain
from agentpulse_exporter._wire.media import without_bodies

MAX_JSON = 8_192
"""Characters of one value as JSON."""
_MAX_TEXT = 4_096
_BUDGETS = ((2_048, 512), (256, 256), (64, 64))
"""Characters of a text and number of values, tried in turn until the JSON is small."""
_MAX_WHOLE = 2**63
_MAX_DEPTH = 6
_CUT = "…"
_SPELT = {
    *(("datetime", name) for name in ("datetime", "date", "time", "timedelta")),
    *(("uuid", "UUID"), ("decimal", "Decimal")),
    *(("pathlib", f"{name}Path") for name in ("", "Posix", "Windows", "Pure")),
    *(("pathlib._local", f"{name}Path") for name in ("", "Posix", "Windows")),
}
"""Types of the standard library whose text is complete, and runs no code but its own."""


def attribute(value: object) -> Any:
    """The value as OpenTelemetry takes it: as it is, or as JSON."""
    value = _of_enum(value)
    exact = _exact(value, _MAX_TEXT)
    if isinstance(exact, str):
        return clean(_shown(value, exact), _MAX_TEXT)
    whole = isinstance(exact, int) and not -_MAX_WHOLE <= exact < _MAX_WHOLE
    return json_text(value) if exact is None or whole else exact


def label(value: object) -> str:
    """A name, of any value that was given as one."""
    exact = _exact(value, MAX_LABEL)
    return f"<{type(value).__name__}>" if exact is None else clean(str(exact), MAX_LABEL)


def text_of(error: BaseException) -> str:
    """The text of an exception. Its class may be the user's, whose `__str__` may raise anything."""
    try:
        text = str(error)
        return clean(_shown(text, text[: _MAX_TEXT + 1]), _MAX_TEXT)
    except BaseException:  # noqa: BLE001  # one that is on its way must not be replaced
        return f"<{type(error).__name__}>"


def result_text(value: object) -> Any:
    """The result of a session as an attribute from which a receiver reads the same value."""
    written = attribute(value)
    # A text that might be taken for JSON becomes some, which holds that text.
    looks_like_json = isinstance(written, str) and written.lstrip()[:1] in ("{", "[", '"')
    return json.dumps(written) if looks_like_json and issubclass(type(value), str) else written


def json_text(value: object) -> str:
    """The value as JSON of at most `MAX_JSON` characters; `"…"` in place of parts too large."""
    for longest, values in _BUDGETS:
        # Cut before it is copied: a document of megabytes costs no more than its start.
        copy = without_bodies(_Copy(longest, values).of(value, _MAX_DEPTH))
        text = json.dumps(plain(copy, limit=longest))
        if len(text) <= MAX_JSON:
            return text
    return json.dumps(f"<{type(value).__name__}>")


def data_attributes(data: Mapping[str, object]) -> dict[str, Any]:
    """The fields of an event as attributes of the span that it travels as."""
    attributes: dict[str, Any] = {}
    for name, value in data.items():
        if value is not None:
            is_simple = _exact(_of_enum(value), 1) is not None
            prefix = semconv.DATA_PREFIX if is_simple else semconv.JSON_PREFIX
            attributes[prefix + label(name)] = attribute(value)
    return attributes


def _of_enum(value: object) -> object:
    """The value of a member of an enumeration; of others, themselves."""
    is_member = issubclass(type(value), enum.Enum)
    return object.__getattribute__(value, "_value_") if is_member else value


def _exact(value: object, longest: int) -> str | bool | int | float | None:
    """The text, number or switch that a value holds, whatever its class; None for all else.

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


class _Copy:
    """A copy of a part of a value: so many values, texts so long, and so deep."""

    def __init__(self, longest: int, values: int) -> None:
        self._longest = longest
        self._values = values
        self._characters = 2 * MAX_JSON
        self._is_cut = False

    def of(self, value: object, depth: int) -> object:
        """A copy of that part, made of plain objects only."""
        self._values -= 1
        if value is None:
            return None
        value = _of_enum(value)
        exact = _exact(value, min(self._longest, max(self._characters, 0)))
        if exact is not None:
            self._characters -= len(exact) if isinstance(exact, str) else 8
            return _shown(value, exact) if isinstance(exact, str) else exact
        kind = type(value)
        for base in (bytes, bytearray):
            if issubclass(kind, base):
                return f"<{base.__len__(cast('Any', value))} bytes>"
        fields, items = _fields(value, kind), _items(value, kind)
        if fields is None and items is None:
            return f"<{kind.__name__}>"
        if not depth or not self._has_room():
            return _CUT
        if fields is not None:
            named = takewhile(self._has_room, fields)
            shown = {label(name): self.of(item, depth - 1) for name, item in named}
            return {**shown, _CUT: _CUT} if self._is_cut else shown
        listed = [self.of(item, depth - 1) for item in takewhile(self._has_room, items or ())]
        return [*listed, _CUT] if self._is_cut else listed

    def _has_room(self, _next: object = None) -> bool:
        self._is_cut = self._values <= 0 or self._characters <= 0
        return not self._is_cut


def _items(value: Any, kind: type) -> Iterator[object] | None:
    """The items of a list, a tuple or a set."""
    bases: tuple[Any, ...] = (list, tuple, set, frozenset)
    return next((base.__iter__(value) for base in bases if issubclass(kind, base)), None)


def _fields(value: Any, kind: Any) -> Iterable[tuple[object, object]] | None:
    """The fields of a mapping, a dataclass or a pydantic model."""
    if issubclass(kind, dict):
        return dict[object, object].items(value)
    if not dataclasses.is_dataclass(kind) and not hasattr(kind, "__pydantic_fields__"):
        return None
    held: Any = None
    with suppress(AttributeError):
        held = object.__getattribute__(value, "__dict__")
    items = cast("dict[object, object]", held).items() if type(held) is dict else ()
    return chain(items, _slots(value, kind, getattr(kind, "__dataclass_fields__", {})))


def _slots(value: Any, kind: Any, names: Mapping[str, object]) -> Iterator[tuple[object, object]]:
    """Those fields of a dataclass that are slots."""
    for base in kind.__mro__:
        for name, member in cast("Mapping[str, Any]", vars(base)).items():
            if type(member) is MemberDescriptorType and name in names:
                with suppress(AttributeError):  # it was never set
                    yield name, member.__get__(value, kind)
