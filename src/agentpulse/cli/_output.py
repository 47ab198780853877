"""Output of the commands: text that any terminal or pipe can take, messages and failures."""

from __future__ import annotations

import os
import sys


def fail(message: str) -> int:
    """Prints why the command can't go on; the exit status."""
    print(message, file=sys.stderr)
    return 1


def notify(message: str) -> None:
    """Prints a message beside the output, which belongs to events or to the user's command."""
    print(f"agentpulse: {message}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text without characters that can steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def encodable(text: str) -> str:
    """The text in the characters that standard output has."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def discard_output() -> None:
    """Drops all further output, also what is still buffered: a flush at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command_of(words: list[str]) -> list[str]:
    """The user's command among the arguments of ours, which `--` may set apart."""
    return words[1:] if words[:1] == ["--"] else words
