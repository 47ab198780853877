"""The plugin that ends what tests leave running, and lets the programs of tests be interrupted."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import leftovers
import pytest
from fakes import processes
from fakes.pipe import becomes_true

pytestmark = pytest.mark.skipif(not leftovers.IS_WATCHED, reason="there is no /proc here")

PROGRAM = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
if name == "parent":
    subprocess.Popen([sys.executable, __file__, str(folder), "child"])
# Whole or not there, for tests count the files of the folder.
(folder.parent / name).write_text(str(os.getpid()))
(folder.parent / name).rename(folder / name)
time.sleep(600)
"""
"""It starts another one; neither ends by itself. Their ids are in files."""

LEAVING = """
import os, signal, subprocess, sys, time
import leftovers, pytest

leftovers.SECONDS_TO_END = 0.5

@pytest.mark.timeout(600)
def test_leaving():
    program = subprocess.Popen({command!r}, start_new_session=True)
    while len(os.listdir({folder!r})) < 2:
        time.sleep(0.01)
    {ending}
"""
ENDINGS = {
    "passes": "pass",
    "fails": "assert False",
    "is interrupted": "raise KeyboardInterrupt",
    "takes too long": "signal.raise_signal(signal.SIGALRM)",  # as pytest-timeout does
    "is killed with its worker": "os.kill(os.getpid(), signal.SIGKILL)",
}
LEFT = "The test left processes running:"
PYTEST = (sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_timeout", "-p", "leftovers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the ids are."""
    folder = tmp_path / "ids"
    folder.mkdir()
    return folder


@pytest.fixture
def command(tmp_path: Path, folder: Path) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return [sys.executable, str(program), str(folder), "parent"]


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A run of pytest under the plugin, as a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    # No more than the plugins it names, for it starts in a fifth of the time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def is_running(path: Path) -> bool:
    process = leftovers.process(path.read_text())
    return process is not None and not process.is_over


def assert_nothing_runs(folder: Path) -> None:
    ids = [folder / "parent", folder / "child"]
    assert becomes_true(lambda: not any(map(is_running, ids)))


@pytest.mark.parametrize(
    ("ending", "workers"),
    [
        ("passes", 0),
        ("fails", 0),
        ("fails", 1),
        ("is interrupted", 0),
        ("takes too long", 1),
        ("is killed with its worker", 1),
    ],
)
def test_nothing_goes_on_after_a_test_that(
    ending: str, workers: int, inner: pytest.Pytester, command: list[str], folder: Path
):
    given = {"command": command, "folder": str(folder), "ending": ENDINGS[ending]}
    inner.makepyfile(LEAVING.format(**given))

    done = processes.run([*PYTEST, f"--numprocesses={workers}"], cwd=inner.path)

    assert done.returncode != 0
    assert "left running" in done.stdout or LEFT in done.stdout + done.stderr
    assert_nothing_runs(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_goes_on_after_a_run_that_is_ended_by(
    number: signal.Signals, inner: pytest.Pytester, command: list[str], folder: Path
):
    given = {"command": command, "folder": str(folder), "ending": "program.wait()"}
    inner.makepyfile(LEAVING.format(**given))

    with processes.running(PYTEST, cwd=inner.path) as running:
        assert becomes_true(lambda: len(list(folder.iterdir())) == 2)
        running.send_signal(number)
        running.wait(processes.LIMIT)

        assert_nothing_runs(folder)


def test_a_program_is_ended_with_all_that_it_started(command: list[str], folder: Path):
    def fail() -> None:
        with processes.running(command):
            assert becomes_true(lambda: len(list(folder.iterdir())) == 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert_nothing_runs(folder)


def test_a_program_that_hangs_shows_where(
    command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "LIMIT", 0.01)

    with processes.running(command) as program:
        assert becomes_true(lambda: len(list(folder.iterdir())) == 2)
        # The stacks of both may be written at once, line through line.
        with pytest.raises(
            AssertionError, match=r"has not ended(?s:.*)Fatal Python error(?s:.*)<module>"
        ):
            processes.ended(program)


HEARING = """
import signal, sys
from fakes import processes

PRINTS = "import signal; print(*(signal.getsignal(number) for number in (1, 2, 3)))"

def test_hearing():
    heard = processes.run([sys.executable, "-c", PRINTS])
    names = heard.stdout.replace(repr(signal.default_int_handler), "2").split()
    assert names == [str(signal.SIG_DFL), "2", str(signal.SIG_DFL)], heard.stdout
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_programs_hear_signals_also_where_tests_are_run_that_ignore_them(
    workers: int, inner: pytest.Pytester
):
    inner.makepyfile(HEARING)
    ignoring = "trap '' HUP INT QUIT; exec \"$@\""

    done = processes.run(
        ["sh", "-c", ignoring, "sh", *PYTEST, f"--numprocesses={workers}"], cwd=inner.path
    )

    assert done.returncode == 0, done.stdout
