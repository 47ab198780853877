"""Children of `multiprocessing`, of which the forked ones leave past the exit functions."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import processes
from fakes.collector import Collector
from fakes.pipe import becomes_true
from fakes.sdk import Receiver

BIN = Path(sys.executable).parent
PROGRAM = """
import multiprocessing, sys, threading
import agentpulse

agentpulse.init(heartbeat_interval=0)


def work():
    with agentpulse.agent("clerk"):
        pass


def work_after_the_main_thread():
    def later():
        threading.main_thread().join()
        work()

    threading.Thread(target=later).start()


if __name__ == "__main__":
    method, target = sys.argv[1:]
    child = multiprocessing.get_context(method).Process(target=globals()[target])
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""
TOLD = "invoke_agent clerk"
RunChild = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_child(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunChild:
    """Runs a program whose child is started by this method."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", receiver.endpoint)

    def run(
        method: str, target: str = "work", by: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        # Newer Pythons warn of fork beside a thread.
        command = [sys.executable, "-W", "ignore::DeprecationWarning", str(program)]
        return processes.run([*by, *command, method, target])

    return run


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv("AGENTPULSE_OTLP_ENDPOINT", collector.url)
        yield collector


def told(receiver: Receiver) -> list[str]:
    return [event["data"]["name"] for event in receiver.of_kind("span_end")]


METHODS = multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("by", [(), (str(BIN / "agentpulse"), "run")], ids=["init", "run"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_child_tells_arrives_here_and_elsewhere(
    method: str, by: tuple[str, ...], run_child: RunChild, receiver: Receiver, collector: Collector
):
    program = run_child(method, by=by)

    assert (program.returncode, program.stderr) == (0, "")
    assert told(receiver) == [TOLD]
    assert [span["name"] for span in collector.spans] == [TOLD]


@pytest.mark.parametrize("method", METHODS)
def test_at_the_end_of_a_child_neither_waits_for_the_other(
    method: str, run_child: RunChild, receiver: Receiver, collector: Collector
):
    receiver.pause = threading.Event()
    answer = receiver.pause.set

    def answer_once_it_was_sent_elsewhere() -> None:
        if becomes_true(lambda: bool(collector.spans)):
            answer()

    waiting = threading.Thread(target=answer_once_it_was_sent_elsewhere)
    waiting.start()
    program = run_child(method)
    waiting.join()

    assert (program.returncode, program.stderr) == (0, "")
    assert told(receiver) == [TOLD]


def test_a_spawned_child_ends_after_its_threads(run_child: RunChild, receiver: Receiver):
    program = run_child("spawn", "work_after_the_main_thread")

    assert (program.returncode, program.stderr) == (0, "")
    assert told(receiver) == [TOLD]
