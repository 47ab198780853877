"""However a program ends, and whatever the endpoint does: it ends as it would without us."""

from __future__ import annotations

import signal

import pytest
from fakes.sdk import Receiver, Run
from process.test_programs import CALL

PROGRAM = """
import os, signal, sys, threading, time
{call}
{begin}
{ending}
"""
PATIENT = (
    "from agentpulse_exporter._delivery import upload as u; "
    "u.ATTEMPT += 600; u.ATTEMPT_AT_EXIT += 600"
)
"""A request may take longer than a program of a test: one that waits for it is one that hangs."""
BEGIN = f"{PATIENT}; import agentpulse; agentpulse.init(); make_call()"

THAT_DELIVER = {
    "the end of the program": "print('done')",
    "an exit status": "sys.exit(3)",
    "an exit message": "sys.exit('out of work')",
    "an exception": "raise RuntimeError('out of luck')",
    "Ctrl-C": "signal.raise_signal(signal.SIGINT)",
    "Ctrl-C caught": """
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    sys.exit(130)
""",
    "an exit in a handler of SIGTERM": """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
signal.raise_signal(signal.SIGTERM)
""",
    "a daemon thread": "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "an exit in a thread": "threading.Thread(target=sys.exit, args=(3,)).start()",
}
THAT_LOSE = {
    "SIGTERM": "signal.raise_signal(signal.SIGTERM)",
    "os._exit": "os._exit(4)",
}


def _tells_of_losses(line: str) -> bool:
    # The last is what OpenTelemetry's own exporter says.
    words = ("did not reach AgentPulse", "did not reach http://", "Failed to export spans batch")
    return any(each in line for each in words)


def endings(table: dict[str, str]) -> list[object]:
    return [pytest.param(code, id=name) for name, code in table.items()]


@pytest.fixture
def ends_alike(run_program: Run):
    """Runs a program without us and with us, and compares how they end."""

    def compare(ending: str, endpoint: str, **variables: str) -> None:
        bare = run_program(PROGRAM.format(call=CALL, begin="", ending=ending))
        ours = run_program(
            PROGRAM.format(call=CALL, begin=BEGIN, ending=ending),
            AGENTPULSE_ENDPOINT=endpoint,
            **variables,
        )

        assert (ours.returncode, ours.stdout) == (bare.returncode, bare.stdout)
        assert ours.stderr.startswith(bare.stderr)
        said = ours.stderr[len(bare.stderr) :].splitlines()
        assert [line for line in said if not _tells_of_losses(line)] == []

    return compare


@pytest.mark.parametrize("ending", endings(THAT_DELIVER))
def test_the_program_ends_as_ever_and_what_was_queued_arrives(
    ending: str, receiver: Receiver, ends_alike
):
    ends_alike(ending, receiver.endpoint)

    assert [len(receiver.of_kind(kind)) for kind in ("sdk_init", "llm_call")] == [1, 1]


@pytest.mark.parametrize("ending", endings(THAT_LOSE))
def test_an_end_that_lets_nobody_act_is_not_changed(ending: str, receiver: Receiver, ends_alike):
    ends_alike(ending, receiver.endpoint)


@pytest.mark.parametrize("ending", endings(THAT_DELIVER | THAT_LOSE))
def test_the_program_ends_as_ever_where_nobody_listens(ending: str, refusing: str, ends_alike):
    ends_alike(ending, refusing)


SOME = {name: THAT_DELIVER[name] for name in ("an exit status", "an exception", "Ctrl-C")}


@pytest.mark.parametrize("ending", endings(SOME))
def test_the_program_ends_as_ever_where_nobody_answers(ending: str, silent: str, ends_alike):
    ends_alike(ending, silent, AGENTPULSE_SHUTDOWN_TIMEOUT="1")


@pytest.mark.parametrize("ending", endings(SOME))
def test_the_program_ends_as_ever_where_the_server_fails(
    ending: str, receiver: Receiver, ends_alike
):
    receiver.status = 503

    ends_alike(ending, receiver.endpoint)

    assert receiver.requests


@pytest.mark.parametrize("ending", endings(SOME))
def test_the_program_ends_as_ever_where_nobody_answers_by_otlp_either(
    ending: str, silent: str, ends_alike
):
    patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600", "AGENTPULSE_SHUTDOWN_TIMEOUT": "1"}

    ends_alike(ending, silent, AGENTPULSE_OTLP_ENDPOINT=silent, **patient)


def test_what_a_thread_does_after_the_main_one_arrives(receiver: Receiver, run_program: Run):
    code = f"""
import threading
{CALL}
import agentpulse; agentpulse.init()
def work():
    threading.main_thread().join()
    make_call()
threading.Thread(target=work).start()
"""

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert (program.returncode, program.stderr) == (0, "")
    assert len(receiver.of_kind("llm_call")) == 1


def test_sigterm_ends_the_program_in_time_where_nobody_answers(silent: str, run_program: Run):
    code = f"""
import signal
{CALL}
{PATIENT}
import agentpulse; agentpulse.init(flush_on_sigterm=True, shutdown_timeout=0.5)
make_call()
signal.raise_signal(signal.SIGTERM)
"""
    program = run_program(code, AGENTPULSE_ENDPOINT=silent)

    assert program.returncode == -signal.SIGTERM
