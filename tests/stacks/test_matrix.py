"""One model call is one priced event, in every stack, whoever else looks on."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fakes import processes

OTHERS = {
    "official": "opentelemetry.instrumentation.genai.",
    "openllmetry": "opentelemetry.instrumentation.",
    "openinference": "openinference.instrumentation.",
}
WORLDS = ("ours", "native", *OTHERS, *(f"{other}, after ours" for other in OTHERS))
STACKS = (
    "openai",
    "anthropic",
    "litellm > openai",
    "litellm > anthropic",
    "langchain > openai",
    "langchain > anthropic",
    "langgraph",
    "langchain > litellm",
)
MODES = ("sync", "async", "stream", "astream")


@cache
def outcome(world: str) -> Any:
    """What the program says."""
    tests = Path(__file__).parents[1]
    done = processes.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "program.py"), world],
        env={"PYTHONPATH": str(tests), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("world", WORLDS)
def test_what_is_reported_is_what_was_billed(world: str, stack: str, mode: str):
    result, case = outcome(world), f"{stack}, {mode}"

    assert result["told"][case]["calls"] == result["billed"][case]["calls"]
    assert result["told"][case]["cost"] == pytest.approx(result["billed"][case]["cost"], abs=1e-9)


@pytest.mark.parametrize("world", WORLDS)
def test_no_call_is_recorded_outside_its_session(world: str):
    assert set(outcome(world)["told"]) == {f"{stack}, {mode}" for stack in STACKS for mode in MODES}


@pytest.mark.parametrize("world", WORLDS)
def test_the_others_recorded_the_calls_too(world: str):
    scopes = outcome(world)["scopes"]
    prefix = OTHERS.get(world.partition(", ")[0])

    expected = set() if prefix is None else {"anthropic", "langchain", "openai"}
    reported = {scope.removeprefix(prefix or "-").partition(".")[0] for scope in scopes}
    assert expected <= reported
