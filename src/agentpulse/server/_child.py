"""Runs a command that gets the signals sent to us, and ends as it would by itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

_PASSED_ON = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]
_FROM_KEYBOARD = [getattr(signal, name, None) for name in ("SIGINT", "SIGQUIT")]
_NOT_FOUND = 127
_NOT_RUNNABLE = 126
_KILLED = 128


@dataclass(slots=True)
class Ending:
    """How a command ended."""

    status: int
    """As shells have it: 127 and 126 for what can't be run, 128 + n for the end by signal n."""
    problem: str | None = None
    """Why it didn't run at all."""
    signals: list[int] = field(default_factory=list[int])
    """What we got, in order, while it ran."""


def run(command: Sequence[str], environ: Mapping[str, str]) -> Ending:
    """Runs the command to its end, on our own streams. For the main thread.

    Signals that would end us go to the command instead, which may see to it in its own way.
    """
    child = _Child()
    before = {
        number: signal.signal(number, child.handle)
        for number in _PASSED_ON
        # What we were told to ignore (by nohup, say) the command inherits as ignored.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        return child.run(command, environ)
    except FileNotFoundError:
        return Ending(_NOT_FOUND, f"There is no command {command[0]!r}.")
    except OSError as error:
        return Ending(_NOT_RUNNABLE, f"{command[0]!r} can't be run: {error.strerror}.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._received: list[int] = []

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> Ending:
        process = subprocess.Popen(command, env=environ)  # noqa: S603  # it is the user's own
        early = list(self._received)
        self._process = process
        for number in early:
            _pass_on(process, number)
        status = process.wait()
        return Ending(_KILLED - status if status < 0 else status, None, self._received)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)
        if self._process is not None:
            _pass_on(self._process, number)


def _pass_on(process: subprocess.Popen[bytes], number: int) -> None:
    if number in _FROM_KEYBOARD and _has_keyboard():
        return  # Ctrl-C reaches every program of the terminal's foreground, the command too
    process.send_signal(number)


def _has_keyboard() -> bool:
    """Whether we run in the foreground of a terminal."""
    if os.name != "posix":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
