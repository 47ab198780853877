"""Values of span attributes by the type that is expected of them.

Spans come from anybody: a token count may be a text and a model a number. What is not of its type
is treated as not being there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

Attributes = Mapping[str, object]

_MAX_WHOLE = 2**63
"""Receivers read whole numbers as 64 bits."""


def text(attributes: Attributes, name: str) -> str | None:
    """A text that says something, or None."""
    value = attributes.get(name)
    return value if isinstance(value, str) and value else None


def number(attributes: Attributes, name: str) -> float | None:
    """A finite number, or None."""
    value = attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int):
        return value if abs(value) < _MAX_WHOLE else None
    return value if math.isfinite(value) else None


def count(attributes: Attributes, name: str) -> int | None:
    """A whole number of at least 0, or None."""
    value = number(attributes, name)
    return int(value) if value is not None and 0 <= value < _MAX_WHOLE else None


def texts(attributes: Attributes, name: str) -> list[str] | None:
    """A list of texts, or None."""
    value = attributes.get(name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return None
    return [item for item in cast("Sequence[object]", value) if isinstance(item, str)]
