"""When a price holds: from a day on (`2026-03-13`) or daily between two times (UTC)."""

from collections.abc import Callable
from datetime import UTC, datetime, time

Condition = Callable[[float], bool]
"""Whether it holds at a time in seconds since 1970."""

_DAY = 86_400


def condition(text: str | None) -> Condition | None:
    """What the price table writes as `2026-03-13` or `00:30-16:30`; `None` holds always."""
    if text is None:
        return None
    if ":" not in text:
        start = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        return lambda at: at >= start
    first, last = (_seconds(time.fromisoformat(part)) for part in text.split("-"))
    if last < first:
        return lambda at: at % _DAY >= first or at % _DAY < last
    return lambda at: first <= at % _DAY < last


def _seconds(moment: time) -> int:
    return moment.hour * 3_600 + moment.minute * 60 + moment.second
