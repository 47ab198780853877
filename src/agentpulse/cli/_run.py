"""`agentpulse run`: a command with AgentPulse on in every Python program of it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from agentpulse._output import notify

_PICKS_OURS = {"OTEL_PYTHON_DISTRO": "agentpulse", "OTEL_PYTHON_CONFIGURATOR": "agentpulse"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.usage = "agentpulse run COMMAND ..."
    parser.description = (
        "Runs a command under OpenTelemetry's auto-instrumentation with AgentPulse as "
        "its distribution, as `opentelemetry-instrument` does: the calls of a Python program are "
        "recorded without a change to it. The exit status is the command's."
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")


def run(arguments: argparse.Namespace) -> int:
    """Becomes the command; returns only where it can't be run, or on Windows after it."""
    command = command_of(arguments.command)
    if not command:
        print("There is no command; for example: agentpulse run python agent.py", file=sys.stderr)
        return 2
    # Found, not imported: that raises where a variable of OpenTelemetry is wrong, and the command
    # is to run all the same.
    found = find_spec("opentelemetry.instrumentation.auto_instrumentation")
    folder = Path(found.origin).parent  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]  # we depend on it
    # The folder of the program's own modules comes along, as `opentelemetry-instrument` has it.
    environ = {**_PICKS_OURS, **os.environ, "PYTHONPATH": path_with(folder, Path.cwd())}
    sys.stdout.flush()
    try:
        if os.name == "posix":
            os.execvpe(command[0], command, environ)  # noqa: S606  # the user's own command
        # On Windows a parent that waits for this process would not wait for one that replaces it.
        program = which(command[0]) or command[0]
        return subprocess.run([program, *command[1:]], env=environ, check=False).returncode  # noqa: S603  # the same
    except OSError as error:
        return not_started(command, error)


def command_of(words: list[str]) -> list[str]:
    """The user's command among the arguments of ours, which `--` may set apart."""
    return words[1:] if words[:1] == ["--"] else words


def not_started(command: list[str], error: OSError) -> int:
    """Prints why a command could not be started; the exit status, as shells have it."""
    if isinstance(error, FileNotFoundError):
        notify(f"There is no command {command[0]!r}.")
        return 127
    notify(f"{command[0]!r} can't be run: {error.strerror}.")
    return 126


def path_with(*folders: Path) -> str:
    """PYTHONPATH with folders before its own, the first with the `sitecustomize` of a program."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))
