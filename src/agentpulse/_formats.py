"""Figures for people to read. None is unknown, and shown as a dash."""

from __future__ import annotations

UNKNOWN = "\u2013"
_LEAST = 0.000001
"""US dollars: what is less would be shown as nothing."""
_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000


def dollars(value: float | None) -> str:
    """A cost in as many digits as tell something: `$12.50`, `$0.0315`, `$0.000042`."""
    if value is None:
        return UNKNOWN
    if value >= 1 or not value:
        return f"${value:,.2f}"
    return f"${value:.4f}" if value >= 0.01 else precise_dollars(value)


def precise_dollars(value: float) -> str:
    """A cost to the millionth of a dollar: `$12.500000`, `$0.000042`; less is `<$0.000001`."""
    return f"<${_LEAST:.6f}" if 0 < value < _LEAST else f"${value:,.6f}"


def whole(value: int | None) -> str:
    """A count: `1,234`."""
    return UNKNOWN if value is None else f"{value:,}"


def duration(milliseconds: float | None) -> str:
    """A time: `830 ms`, `2.4 s`, `12 min`, `3 h 20 min`."""
    if milliseconds is None:
        return UNKNOWN
    rounded = round(milliseconds)
    if rounded < _SECOND:
        return f"{rounded} ms"
    if rounded < _MINUTE:
        return f"{milliseconds / 1000:,.1f} s"
    minutes, hours = rounded // _MINUTE, rounded // _HOUR
    return f"{minutes} min" if rounded < _HOUR else f"{hours:,} h {minutes % 60} min"
