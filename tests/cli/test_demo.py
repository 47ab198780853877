"""`agentpulse demo`, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import processes

from agentpulse.demo import _summary as summary
from agentpulse.demo._agent import NightShift
from agentpulse.demo.provider import Charge, FakeProvider

COMMAND = [sys.executable, "-m", "agentpulse", "demo"]
VARIABLES = {"COLUMNS": "80", "PYTHONWARNINGS": "error"}


def demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return processes.run([*COMMAND, *arguments], env={**os.environ, **VARIABLES, **variables})


def test_the_demo_shows_what_was_recorded_and_that_it_agrees_with_the_bill() -> None:
    shown = demo("--once")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for name in (
        "night-shift  cron",
        "mail  session",
        "invoke_agent clerk",
        "read-mail",
        "execute_tool search_mail",
        "chat claude-sonnet-4-6",
        "back-up  BackupError",
        "! The backup failed",
    ):
        assert any(name in line for line in lines), name
    (total,) = [line for line in lines if line.startswith("all ")]
    assert total.split()[:2] == ["all", "(9)"]
    (run,) = [line for line in lines if line.startswith("night-shift")]
    assert total.split()[-3:] == [run.split()[-3], "1", "failed"]
    assert "All 9 calls were accepted by the server, and agree with the provider's bill." in lines


def test_the_demo_takes_nothing_from_the_users_own_settings() -> None:
    shown = demo(
        "--once",
        AGENTPULSE_ENABLED="false",
        OTEL_SDK_DISABLED="true",
        OPENAI_BASE_URL="http://127.0.0.1:9",
        HTTP_PROXY="http://127.0.0.1:9",
    )
    assert shown.returncode == 0, shown.stderr
    assert "All 9 calls were accepted" in shown.stdout


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Ctrl-C is sent otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_goes_on_until_a_signal_and_then_ends_well(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [*COMMAND, "--port", "0"]
    environ = {**os.environ, **VARIABLES, "XDG_DATA_HOME": str(tmp_path)}
    with processes.running(command, env=environ) as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith("The agent goes on."):
            assert running.poll() is None
        # The address that opens the page is one line, however narrow the terminal is.
        assert re.fullmatch(
            r"http://127\.0\.0\.1:\d+/open/[0-9a-f]{48}\n", running.stdout.readline()
        )
        running.send_signal(number)
        out, err = processes.ended(running)
    assert (running.returncode, err) == (0, "")
    assert out.endswith("Ended.\n")
    # The key of its server is gone with it.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_agent_can_work_night_after_night() -> None:
    with FakeProvider() as provider, NightShift(provider) as agent:
        for _ in range(2):
            agent.run()
    assert len(provider.requests) == 18


def call(**data: object) -> dict[str, object]:
    known = {"model": "gpt-4o", "input_tokens": 5, "output_tokens": 1, "cache_read_tokens": None}
    more = {"tokens": 6, "cost_usd": 0.1, "status": "success"}
    return {"kind": "llm_call", "data": {**known, **more, **data}}


CHARGE = Charge("openai", "gpt-4o", 5, 1)


@pytest.mark.parametrize(
    ("events", "reported"),
    [
        ([call()], []),
        ([], ["1 calls were made, 0 were accepted.", "Billed, but not recorded so: "]),
        ([call(output_tokens=2)], ["Billed, but not recorded so: ", "Recorded, but not billed so"]),
        ([call(cost_usd=None)], ["No price is known of gpt-4o."]),
    ],
)
def test_differences_from_the_bill_are_reported(events: list[object], reported: list[str]) -> None:
    found = summary.differences(events, [object()], [CHARGE])  # type: ignore[arg-type]
    assert len(found) == len(reported)
    assert all(sentence.startswith(start) for sentence, start in zip(found, reported, strict=True))
