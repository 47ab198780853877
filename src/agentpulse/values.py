"""Values of a user's program as span attributes, without running a line of the user's code.

No `str`, no `repr`, no property: an object's own code may raise, block or never end. What JSON has
no word for is told by its type. Texts, depth and size are bounded before anything is copied.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from agentpulse_exporter import names
from agentpulse_exporter.limits import MAX_LABEL, clean, plain

MAX_JSON = 8_192
"""Characters of one value as JSON."""
_MAX_TEXT = 4_096
_BUDGETS = ((2_048, 256), (256, 64), (64, 16))
"""Characters of a text and number of lists and objects, tried in turn until the JSON is small."""
_MAX_ITEMS = 256


def attribute(value: object) -> Any:
    """The value as OpenTelemetry takes it: as it is, or as JSON."""
    if value.__class__ in (bool, int, float):
        return value
    if isinstance(value, str):
        return clean(value, _MAX_TEXT)
    return json_text(value)


def label(value: object) -> str:
    """A name, of whatever was given as one."""
    return clean(value, MAX_LABEL) if isinstance(value, str) else f"<{type(value).__name__}>"


def json_text(value: object) -> str:
    """The value as JSON of at most `MAX_JSON` characters; `"…"` in place of what is too large."""
    text = "null"
    for longest, items in _BUDGETS:
        text = json.dumps(plain(_bounded(value, iter(range(items)), longest, 6), limit=longest))
        if len(text) <= MAX_JSON:
            return text
    return json.dumps(f"<{type(value).__name__}>")


def data_attributes(data: Mapping[str, object]) -> dict[str, Any]:
    """The fields of an event as attributes of the span that it travels as."""
    told: dict[str, Any] = {}
    for name, value in data.items():
        if value is None:
            continue

        simple = isinstance(value, (str, bool, int, float))
        prefix = names.DATA_PREFIX if simple else names.JSON_PREFIX
        told[prefix + label(name)] = attribute(value)
    return told


def _bounded(value: object, budget: Iterator[int], longest: int, depth: int) -> object:
    """The part of the value that is looked at: so many items, so deep; texts already cut."""
    if isinstance(value, str):
        # Cut before it is copied: a document of megabytes costs no more than its start.
        return value[: longest + 1]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if not depth or next(budget, None) is None:
        return "…"
    fields = _fields(value)
    if fields is not None:
        return {
            name if isinstance(name, str) else f"<{type(name).__name__}>": _bounded(
                item, budget, longest, depth - 1
            )
            for name, item in itertools.islice(fields.items(), _MAX_ITEMS)
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("list[object]", value)
        return [
            _bounded(item, budget, longest, depth - 1)
            for item in itertools.islice(items, _MAX_ITEMS)
        ]
    return value


def _fields(value: object) -> dict[Any, Any] | None:
    """What a mapping, a dataclass or a pydantic model holds."""
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value)
    kind = type(value)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__pydantic_fields__"):
        held: object = getattr(value, "__dict__", None)
        return cast("dict[Any, Any]", held) if isinstance(held, dict) else None
    return None
