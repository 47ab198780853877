"""The three ways in report the same of the demo's agent, from wheels that pip installed."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agentpulse_exporter import calculate_cost
from fakes.installed import DIST, PROGRAMS, run
from fakes.receiver import Receiver
from fakes.reported import Fields, without_what_differs

IN_CODE, UNCHANGED, BY_HAND = (
    str(PROGRAMS / f"{name}.py") for name in ("in_code", "unchanged", "by_hand")
)
WAYS = {
    "init": ("sdk", "python", IN_CODE),
    "opentelemetry-instrument": ("sdk", "opentelemetry-instrument", "python", UNCHANGED),
    "agentpulse run": ("sdk", "agentpulse", "run", "python", UNCHANGED),
    "exporter": ("parts", "python", BY_HAND),
}
SUMS = ("calls", "tokens", "input_tokens", "output_tokens", "cost_usd")
AROUND = {"session", "trace", "parent", "span", "data.agent"}
"""What reports the session, the agent and the spans around a call: the SDK's to know."""


@dataclass(frozen=True)
class Night:
    """What was recorded a night, by whom, and what the provider billed."""

    reported: list[Fields]
    costs: list[Fields]
    senders: set[tuple[str, str]]
    bill: list[dict[str, Any]]

    def calls(self) -> list[Fields]:
        return [fields for fields in self.reported if fields["kind"] == "llm_call"]

    def rolled_up(self, *by: str) -> dict[tuple[Any, ...], list[float]]:
        """The sums of the `cost` events: each is of one upload, of which there may be several."""
        sums: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0.0] * len(SUMS))
        for cost in self.costs:
            group = sums[tuple(cost[name] for name in by)]
            for at, name in enumerate(
                ("calls", "tokens", "input_tokens", "output_tokens", "cost_usd")
            ):
                group[at] = round(group[at] + (cost[f"data.{name}"] or 0), 12)
        return dict(sums)


def worked(way: str) -> Night:
    with Receiver() as receiver:
        variables = {"AGENTPULSE_ENDPOINT": receiver.url, "PYTHONWARNINGS": "error"}
        if way == "exporter":
            # The agent is a part of the SDK, which isn't installed there, nor ever started.
            variables["PYTHONPATH"] = str(DIST["agentpulse_sdk"])
        printed = run(*WAYS[way], **variables)
    reported = without_what_differs(receiver.events)
    return Night(
        reported=[fields for fields in reported if fields["kind"] != "cost"],
        costs=[fields for fields in reported if fields["kind"] == "cost"],
        senders={(r["body"]["agent"], r["body"]["sdk_version"]) for r in receiver.requests},
        bill=json.loads(printed),
    )


@pytest.fixture(scope="module")
def nights() -> dict[str, Night]:
    return {way: worked(way) for way in WAYS}


def compared(capsys: pytest.CaptureFixture[str], ways: str, fields: list[Fields]) -> None:
    with capsys.disabled():
        print(f"\n{ways}: {len(fields)} events, {sum(map(len, fields))} fields compared")


@pytest.mark.parametrize("way", ["opentelemetry-instrument", "agentpulse run"])
def test_a_program_that_is_not_changed_reports_all_that_init_reports(
    way: str, nights: dict[str, Night], capsys: pytest.CaptureFixture[str]
) -> None:
    by_init, other = nights["init"], nights[way]

    assert other.reported == by_init.reported
    by = ("session", "data.provider", "data.model")
    assert other.rolled_up(*by) == by_init.rolled_up(*by)
    assert other.senders == by_init.senders
    assert {fields["kind"] for fields in other.reported} == {
        *("sdk_init", "session", "cron", "span_start", "span_end", "llm_call", "alert")
    }
    compared(capsys, f"init and {way}", other.reported)


def test_a_pipeline_made_by_hand_reports_the_same_of_each_call(
    nights: dict[str, Night], capsys: pytest.CaptureFixture[str]
) -> None:
    by_init, by_hand = nights["init"], nights["exporter"]

    assert by_hand.reported == by_hand.calls()
    ours, theirs = by_alike(by_init.calls()), by_alike(by_hand.calls())
    assert len(theirs) == len(ours) == 9
    different = {
        name
        for one, other in zip(ours, theirs, strict=True)
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }
    assert different == AROUND
    by = ("data.provider", "data.model")
    assert by_hand.rolled_up(*by) == by_init.rolled_up(*by)
    assert by_hand.senders == by_init.senders
    compared(capsys, "init and a pipeline made by hand", theirs)


def by_alike(calls: list[Fields]) -> list[Fields]:
    """In an order that doesn't depend on what is around them."""
    return sorted(
        calls, key=lambda fields: json.dumps([v for n, v in fields.items() if n not in AROUND])
    )


@pytest.mark.parametrize("way", WAYS)
def test_what_calls_cost_is_what_the_provider_bills(way: str, nights: dict[str, Night]) -> None:
    night = nights[way]
    costs = [fields["data.cost_usd"] for fields in night.calls()]

    billed = [price(charge) for charge in night.bill]
    assert len(billed) == 8
    assert sorted(cost for cost in costs if cost is not None) == pytest.approx(sorted(billed))
    # The one that was refused costs nothing, and its cost isn't known to be 0.
    assert costs.count(None) == 1
    assert sum(sums[-1] for sums in night.rolled_up().values()) == pytest.approx(sum(billed))


def price(charge: dict[str, Any]) -> float:
    cost = calculate_cost(
        charge["model"],
        charge["input_tokens"],
        charge["output_tokens"],
        provider=charge["provider"],
        cache_read_tokens=charge["cached_tokens"],
        cache_write_tokens=charge["cache_write_tokens"],
    )
    assert cost is not None, charge
    return cost


@pytest.mark.parametrize(
    ("environment", "modules"),
    [
        ("sdk", ("agentpulse", "agentpulse_exporter", "agentpulse_instrumentation")),
        ("parts", ("agentpulse_exporter", "agentpulse_instrumentation")),
    ],
)
def test_they_run_with_what_pip_installed(environment: str, modules: tuple[str, ...]) -> None:
    program = f"import {', '.join(modules)}; print(*({'.__file__, '.join(modules)}.__file__,))"
    files = run(environment, "python", "-c", program).split()

    assert len(files) == len(modules)
    assert all(f"/{environment}/lib/" in Path(file).as_posix() for file in files)
