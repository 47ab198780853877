"""A program that PyInstaller packed, with all that it needs, records its calls at their cost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes import processes
from fakes.installed import PROGRAMS, run
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

# PyInstaller looks through all that the program imports.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    folder = tmp_path_factory.mktemp("packed")
    options = ("--log-level=ERROR", "--distpath", str(folder / "dist"))
    folders = ("--workpath", str(folder / "build"), "--specpath", str(folder))
    program = str(PROGRAMS / "packed.py")
    run(
        *("packed", "pyinstaller", *options, *folders, program),
        PATH=os.environ["PATH"],  # it asks the tools of the machine about libraries
        PYINSTALLER_CONFIG_DIR=str(folder),
    )
    return folder / "dist" / "packed" / "packed"


def test_a_packed_program_records_its_calls_at_their_cost(packed: Path) -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        done = processes.run(
            [packed, provider.openai_url],
            env={"AGENTPULSE_ENDPOINT": receiver.url},
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, "True 2.5\n", "")
    (call,) = receiver.of_kind("llm_call")
    (started,) = receiver.of_kind("sdk_init")
    assert call["data"]["cost_usd"] > 0
    assert [each.partition(" ")[0] for each in started["data"]["libraries"]] == ["openai"]
