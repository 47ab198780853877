"""The command `agentpulse`: its tree of commands, each in a module of its own.

Only the module of the command in use is imported, so that the dependencies of another one may be
missing. A command's module has `configure(parser)`, which adds its description and arguments, and
`run(arguments)`, which returns the exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from traceback import walk_tb

from agentpulse import __version__
from agentpulse._output import discard_output, fail

COMMANDS = {
    "demo": "run an example agent against fake providers and show what was recorded",
    "dev": "run the local server and its dashboard, alone or with a command to record",
    "run": "run a command with AgentPulse on in its Python programs, without a change to them",
    "tail": "follow the events of a server as they arrive, one line each",
    "status": "show the settings, whether endpoint and key work, and which libraries are recorded",
    "test": "send one event and print the server's answer",
    "costs": "show the price that a model's name leads to",
}
EXTRAS = {"demo": "demo", "dev": "server"}
"""The extra of `agentpulse-sdk` that a command needs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; 2 without a command or with wrong arguments."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((word for word in words if not word.startswith("-")), "")
    try:
        parser = _parser(chosen)
        parsed = parser.parse_args(words)
        if "run" not in parsed:
            parser.print_help()
            return 2
        return parsed.run(parsed)
    except BrokenPipeError:
        # Whoever reads the output has seen enough.
        discard_output()
        return 0
    except ModuleNotFoundError as error:
        return _explain_missing_module(chosen, error)
    except Exception as error:  # noqa: BLE001  # raised again, where it isn't OpenTelemetry's
        return _explain_wrong_variable(chosen, error)
    except KeyboardInterrupt:
        return 130


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentpulse", description="Observability for AI agents: calls, tokens, cost, errors."
    )
    parser.add_argument("--version", action="version", version=f"agentpulse {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:
            module = import_module(f"agentpulse.cli._{name}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


def _explain_missing_module(command: str, error: ModuleNotFoundError) -> int:
    extra = EXTRAS.get(command)
    if extra is None or (error.name or "").startswith("agentpulse"):
        raise error
    install = f'pip install "agentpulse-sdk[{extra}]"'
    return fail(f"agentpulse {command} needs {error.name}, which is not installed: {install}")


def _explain_wrong_variable(command: str, error: Exception) -> int:
    """Explains an error that OpenTelemetry raised, on import or first use, about its variables."""
    *_, (innermost, _) = walk_tb(error.__traceback__)
    if not str(innermost.f_globals.get("__name__")).startswith("opentelemetry."):
        raise error
    variables = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_")))
    return fail(
        f"agentpulse {command}: OpenTelemetry can't be used as its variables are ({variables}), so "
        f"nothing can be recorded: {type(error).__name__}: {error}"
    )
