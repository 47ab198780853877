"""Spans as the tree that they are."""

from __future__ import annotations

from typing import Any

Tree = list[tuple[str, "Tree"]]


def tree(ended: list[Any]) -> Tree:
    """The names of spans, each with those of its children, in the order of their start."""
    inside: dict[int | None, list[Any]] = {}
    known = {span.context.span_id for span in ended}
    for span in sorted(ended, key=lambda span: span.start_time):
        parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
        inside.setdefault(parent, []).append(span)

    def of(parent: int | None) -> Tree:
        return [(span.name, of(span.context.span_id)) for span in inside.get(parent, [])]

    return of(None)


def calls(ended: list[Any]) -> list[Any]:
    """The spans of calls of models."""
    operations = ("chat", "text_completion", "embeddings")
    return [span for span in ended if span.attributes.get("gen_ai.operation.name") in operations]
