"""What the server has of a run, drawn for a terminal: a tree of spans, totals, and the bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agentpulse._output import precise_dollars
from agentpulse.demo.provider import Charge, Request

Event = Mapping[str, Any]


def spans_of(events: Iterable[Event]) -> list[Event]:
    """The events that tell of a span, in the order in which the spans began."""
    told = [event for event in events if _tells_of_a_span(event)]
    return sorted(told, key=lambda event: event["data"].get("started_at", event["ts"]))


def _tells_of_a_span(event: Event) -> bool:
    if event["kind"] == "session":
        # A cron run is a session too, and its own event tells more of it.
        return event["data"]["action"] == "end" and event["data"]["type"] == "session"
    return event["kind"] in ("cron", "llm_call", "span_end", "alert")


def calls_of(events: Iterable[Event]) -> list[Event]:
    """The events that tell of a call of a model."""
    return [event for event in events if event["kind"] == "llm_call"]


def differences(
    events: Iterable[Event], requests: Iterable[Request], bill: Iterable[Charge]
) -> list[str]:
    """What the server has otherwise than the provider, a sentence each."""
    calls, made = calls_of(events), sum(1 for _ in requests)
    found = [] if len(calls) == made else [f"{made} calls were made, {len(calls)} were accepted."]
    billed = Counter(
        (charge.model, charge.input_tokens, charge.output_tokens, charge.cached_tokens)
        for charge in bill
    )
    recorded = Counter(_tokens(call) for call in calls if call["data"]["status"] == "success")
    found += [f"Billed, but not recorded so: {call}." for call in (billed - recorded).elements()]
    found += [f"Recorded, but not billed so: {call}." for call in (recorded - billed).elements()]
    unpriced = [call for call in calls if call["data"]["tokens"] and not call["data"]["cost_usd"]]
    return found + [f"No price is known of {call['data']['model']}." for call in unpriced]


def _tokens(call: Event) -> tuple[Any, ...]:
    data = call["data"]
    return (
        data["model"],
        data["input_tokens"] or 0,
        data["output_tokens"] or 0,
        data.get("cache_read_tokens") or 0,
    )


def show(console: Console, events: Sequence[Event]) -> None:
    """Prints the tree and the totals."""
    console.print(Group(_heading(), _tree(spans_of(events)), "", _totals(calls_of(events))))


_WIDTHS = (7, 7, 10, 9)


def _heading() -> RenderableType:
    return _row(Text("span", style="dim"), ("in", "out", "cost", "time"), 0, style="dim")


def _tree(spans: list[Event]) -> Tree:
    root = Tree("", hide_root=True, guide_style="dim")
    branches: dict[str | None, tuple[Tree, int]] = {}
    for event in spans:
        branch, depth = branches.get(event.get("parent_span_id"), (root, 0))
        branches[event["span_id"]] = (branch.add(_line(event, depth + 1)), depth + 1)
    return root


def _line(event: Event, depth: int) -> Table:
    kind, data = event["kind"], event["data"]
    if kind == "alert":
        return _row(Text(f"! {data['title']}", style="yellow"), ("",) * len(_WIDTHS), depth)
    failed = data["status"] in ("error", "fail")
    called = data.get("name") or data.get("job") or data.get("label")
    name = Text(called, style="red" if failed else "" if kind == "llm_call" else "bold")
    if failed:
        name.append(f"  {data['error_type']}", style="red")
    elif data.get("streaming"):
        name.append("  stream", style="dim")
    elif kind in ("cron", "session"):
        name.append(f"  {kind}", style="dim")
    cells = (
        _count(data.get("input_tokens")),
        _count(data.get("output_tokens")),
        _dollars(data.get("cost_usd")),
        _milliseconds(data["latency_ms"] if kind == "llm_call" else data["duration_ms"]),
    )
    return _row(name, cells, depth)


def _row(name: Text, cells: tuple[str, ...], depth: int, *, style: str = "") -> Table:
    # A tree draws four characters for each level, and the figures are to stand in columns.
    table = Table.grid(padding=(0, 1))
    table.add_column(width=42 - 4 * max(depth - 1, 0), no_wrap=True, overflow="ellipsis")
    for width in _WIDTHS:
        table.add_column(width=width, justify="right", no_wrap=True, style=style)
    table.add_row(name, *cells)
    return table


def _totals(calls: list[Event]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("model", no_wrap=True)
    for title in ("calls", "errors", "input", "cached", "output", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    models = sorted({call["data"]["model"] for call in calls})
    for model in models:
        table.add_row(model, *_sums([call for call in calls if call["data"]["model"] == model]))
    table.add_section()
    table.add_row("all", *_sums(calls), style="bold")
    return table


def _sums(calls: list[Event]) -> list[str]:
    def total(name: str) -> Any:
        return sum(call["data"].get(name) or 0 for call in calls)

    errors = sum(call["data"]["status"] == "error" for call in calls)
    return [
        str(len(calls)),
        str(errors or ""),
        f"{total('input_tokens'):,}",
        f"{total('cache_read_tokens'):,}",
        f"{total('output_tokens'):,}",
        _dollars(total("cost_usd")),
    ]


def _count(tokens: int | None) -> str:
    return "" if tokens is None else f"{tokens:,}"


def _dollars(cost: float | None) -> str:
    return "" if cost is None else precise_dollars(cost)


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms"
