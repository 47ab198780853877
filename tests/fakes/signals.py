"""Signals that a test sends to a program that it runs."""

from __future__ import annotations

import signal

import pytest


def must_be_heard(number: signal.Signals) -> None:
    """Skips the test where the signal is ignored, as under nohup: programs inherit that."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, and so by the program too")
