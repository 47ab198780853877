"""Figures for people to read. None is unknown, and shown as a dash."""

from __future__ import annotations

_UNKNOWN = "\u2013"


def dollars(value: float | None) -> str:
    """A cost in as many digits as tell something: `$12.50`, `$0.0315`, `$0.000042`."""
    if value is None:
        return _UNKNOWN
    if value >= 1 or not value:
        return f"${value:,.2f}"
    return f"${value:.4f}" if value >= 0.01 else f"${value:.6f}"


def whole(value: int | None) -> str:
    """A count: `1,234`."""
    return _UNKNOWN if value is None else f"{value:,}"


def duration(milliseconds: float | None) -> str:
    """A time: `830 ms`, `2.4 s`."""
    if milliseconds is None:
        return _UNKNOWN
    rounded = round(milliseconds)
    return f"{rounded} ms" if rounded < 1000 else f"{milliseconds / 1000:,.1f} s"
