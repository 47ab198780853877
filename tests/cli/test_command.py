"""The command `agentpulse` as a whole: what it has, and what it says where it can't go on."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points, version

import pytest
from fakes import processes

from agentpulse import cli
from agentpulse.cli import COMMANDS, main


def test_the_package_installs_the_command():
    (command,) = entry_points(group="console_scripts", name="agentpulse")

    assert command.load() is main


def test_without_a_command_it_lists_them_and_fails(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2

    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", ["status", "test", "costs"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])

    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: agentpulse {name}")


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["sattus"])

    assert end.value.code == 2
    assert "invalid choice: 'sattus'" in capsys.readouterr().err


def test_it_is_also_a_module_that_runs():
    program = processes.run(
        [sys.executable, "-W", "error", "-m", "agentpulse", "--version"], check=True
    )

    assert program.stdout == f"agentpulse {version('agentpulse-sdk')}\n"


def test_a_command_that_needs_more_than_is_installed_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(cli.EXTRAS, "costs", "prices")
    monkeypatch.setitem(sys.modules, "agentpulse.cli._costs", None)

    with pytest.raises(ModuleNotFoundError):  # ours is missing, which no installing helps
        main(["costs", "gpt-4o"])

    def without_starlette(name: str) -> None:
        raise ModuleNotFoundError(name="starlette")

    monkeypatch.setattr(cli, "import_module", without_starlette)
    assert main(["costs", "gpt-4o"]) == 1
    assert capsys.readouterr().err == (
        "agentpulse costs needs starlette, which is not installed: "
        'pip install "agentpulse-sdk[prices]"\n'
    )


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("OTEL_PROPAGATORS", "ValueError: Propagator nosuch not found."),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "ValueError: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be"),
    ],
)
def test_a_variable_that_opentelemetry_cannot_use_is_explained_in_a_line(
    variable: str, complaint: str
):
    done = processes.run(
        [sys.executable, "-m", "agentpulse", "status"], env={**os.environ, variable: "nosuch"}
    )

    reason = (
        f"agentpulse status: OpenTelemetry can't be used as its variables are ({variable}), so "
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{reason}nothing can be recorded: {complaint}")
    assert done.stderr.count("\n") == 1
