"""The recording of a run, drawn for a terminal: a tree of spans, totals, and the bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from agentpulse._output import precise_dollars
from agentpulse.demo.provider import Charge, Request

Event = Mapping[str, Any]


def spans_of(events: Iterable[Event]) -> list[Event]:
    """The events of a whole span, in the order in which the spans began."""
    return sorted(
        filter(_is_span, events), key=lambda event: event["data"].get("started_at", event["ts"])
    )


def _is_span(event: Event) -> bool:
    if event["kind"] == "session":
        # A cron run is a session too, and its own event has more of it.
        return event["data"]["action"] == "end" and event["data"]["type"] == "session"
    return event["kind"] in ("cron", "llm_call", "span_end", "alert")


def differences(
    events: Iterable[Event], requests: Iterable[Request], bill: Iterable[Charge]
) -> list[str]:
    """The differences between server and provider, a sentence each."""
    calls, made = _calls(events), sum(1 for _ in requests)
    found = [] if len(calls) == made else [f"{made} calls were made, {len(calls)} were accepted."]
    billed = Counter[tuple[Any, ...]](
        (charge.model, charge.input_tokens, charge.output_tokens, charge.cached_tokens)
        for charge in bill
    )
    figures = ("input_tokens", "output_tokens", "cache_read_tokens")
    recorded = Counter[tuple[Any, ...]](
        (data["model"], *(data.get(name) or 0 for name in figures))
        for data in calls
        if data["status"] == "success"
    )
    found += [f"Billed, but not recorded so: {call}." for call in (billed - recorded).elements()]
    found += [f"Recorded, but not billed so: {call}." for call in (recorded - billed).elements()]
    unpriced = [data["model"] for data in calls if data["tokens"] and not data["cost_usd"]]
    return found + [f"No price is known of {model}." for model in unpriced]


def _calls(events: Iterable[Event]) -> list[Event]:
    return [event["data"] for event in events if event["kind"] == "llm_call"]


_WIDTHS = (7, 7, 10, 9)


def show(console: Console, events: Iterable[Event]) -> None:
    """Prints the tree and the totals."""
    heading = _row(Text("span", style="dim"), ("in", "out", "cost", "time"), 0, style="dim")
    console.print(Group(heading, _tree(spans_of(events)), "", _totals(_calls(events))))


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
    lasted = data["latency_ms" if kind == "llm_call" else "duration_ms"]
    cells = (
        _count(data.get("input_tokens")),
        _count(data.get("output_tokens")),
        _dollars(data.get("cost_usd")),
        f"{lasted:,.0f} ms",
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
    for model in sorted({call["model"] for call in calls}):
        table.add_row(model, *_sums([call for call in calls if call["model"] == model]))
    table.add_section()
    table.add_row("all", *_sums(calls), style="bold")
    return table


def _sums(calls: list[Event]) -> list[str]:
    def total(name: str) -> Any:
        return sum(call.get(name) or 0 for call in calls)

    errors = sum(call["status"] == "error" for call in calls)
    tokens = ("input_tokens", "cache_read_tokens", "output_tokens")
    figures = [f"{total(name):,}" for name in tokens]
    return [str(len(calls)), str(errors or ""), *figures, _dollars(total("cost_usd"))]


def _count(tokens: int | None) -> str:
    return "" if tokens is None else f"{tokens:,}"


def _dollars(cost: float | None) -> str:
    return "" if cost is None else precise_dollars(cost)
