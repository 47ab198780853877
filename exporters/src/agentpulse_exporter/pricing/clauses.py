"""How a model's name is recognised: the match clauses of the price table.

A clause is a text (the name is exactly this), a list (any of its clauses), or an object that says
what it is: `{"starts_with": …}`, `{"ends_with": …}`, `{"contains": …}`, `{"regex": …}`, `{"and":
[clause, …]}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Clause: TypeAlias = "str | Sequence[Clause] | Mapping[str, str | Sequence[Clause]]"


def matches(clause: Clause, name: str) -> bool:
    """Whether the clause recognises the name, which is in lower case."""
    if isinstance(clause, str):
        return name == clause
    if isinstance(clause, Mapping):
        return all(_holds(kind, value, name) for kind, value in clause.items())
    return any(matches(part, name) for part in clause)


def _holds(kind: str, value: str | Sequence[Clause], name: str) -> bool:
    if not isinstance(value, str):
        return all(matches(part, name) for part in value)
    if kind == "starts_with":
        return name.startswith(value)
    if kind == "ends_with":
        return name.endswith(value)
    if kind == "contains":
        return value in name
    return re.search(value, name) is not None
