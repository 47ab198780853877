"""Programs that tests run: apart from any terminal, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 200.0
"""Seconds; whatever runs for longer hangs, also on a machine that has much else to do."""
RUN = "PYTEST_LEFTOVERS_RUN"
"""The variable by which the programs of a run of the tests are known, if that is killed."""


@contextmanager
def running(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until the block ends, and is killed then, however the block ends.

    It reads nothing, and what it prints is read by the test, unless `options` says otherwise.
    """
    # So that a program that hangs can show where, and that one of a killed run is known.
    marks = {"PYTHONFAULTHANDLER": "1", RUN: os.environ.get(RUN, "")}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [str(word) for word in command],
        env={**marks, **(os.environ if env is None else env)},
        text=True,
        start_new_session=True,
        **{**streams, **options},
    ) as program:
        try:
            yield program
        finally:
            _send(program, "SIGKILL")


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; the test fails with its stacks where that takes for ever."""
    with running(command, env=env, **options) as program:
        out, err = ended(program)
    done = subprocess.CompletedProcess(program.args, program.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def ended(program: subprocess.Popen[str]) -> tuple[str, str]:
    """Waits for the end of a program; what it printed until then, and was not read before."""
    try:
        return program.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        pass
    _send(program, "SIGABRT")
    try:
        printed = program.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        printed = "nothing of this"
    message = f"{program.args} has not ended in {LIMIT:g} seconds. It printed: {printed}"
    raise AssertionError(message)


def _send(program: subprocess.Popen[str], name: str) -> None:
    """Sends a signal to a program and to all that it started."""
    if os.name != "posix":
        program.kill()
        return
    try:
        os.killpg(program.pid, getattr(signal, name))
    except ProcessLookupError:
        pass  # it has ended, and so have they
