"""Reading requests and answers by tables of paths.

A node is a JSON object: a dict, or the pydantic model a client library made of one. Paths are read
from the `__dict__` of a model, because asking a model for an attribute it lacks costs 3 µs and
dumping it more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

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


# Values of exactly this type are what these conversions make of them (but for the empty text).
_AS_IT_IS: Mapping[Convert, type] = {text: str, integer: int, double: float}


class Table:
    """Span attributes, each with the path it is read from and the conversion to its type.

    A value of another type than the conversion expects sets nothing, so that an answer of a later
    API version gives no attribute rather than a wrong one. Of two paths for one attribute the
    later one wins.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, tuple[str, Convert]]) -> None:
        """Takes `{"usage.prompt_tokens": (attribute, conversion), …}`."""
        own: dict[str, Any] = {}
        for path, row in rows.items():
            parent, _, rest = path.partition(".")
            if rest:
                own.setdefault(parent, {})[rest] = row
            else:
                own[parent] = row
        self._rows: tuple[tuple[str, str, type | None, Any], ...] = tuple(
            (name, "", None, Table(cast("dict[str, Any]", row)).read)
            if isinstance(row, dict)
            else (name, row[0], _AS_IT_IS.get(row[1]), row[1])
            for name, row in own.items()
        )

    def read(self, node: Any, into: dict[str, Any]) -> None:
        """Adds the attributes that `node` gives to `into`.

        This runs for every object in every answer, so nothing is called for a field that has its
        attribute's type already.
        """
        fields, extra = (node, None) if node.__class__ is dict else _fields(node)
        for name, attribute, kind, convert in self._rows:
            value = fields.get(name)
            if value is None and extra:
                value = extra.get(name)
            if value.__class__ is kind:
                if value != "":
                    into[attribute] = value
            elif value is None:
                continue
            elif not attribute:
                convert(value, into)
            elif (converted := convert(value)) is not None:
                into[attribute] = converted


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


def get(node: Any, name: str) -> Any:
    """The field `name` of a node, or None."""
    fields, extra = (node, None) if node.__class__ is dict else _fields(node)
    value = fields.get(name)
    if value is None and extra:
        return extra.get(name)
    return value


def items(node: Any, name: str) -> list[Any]:
    """The list in the field `name` of a node; empty where there is none."""
    value = get(node, name)
    return cast("list[Any]", value) if isinstance(value, list) else []
