"""When a job is to run, as it is told to receivers, which compute with it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from agentpulse._logs import warn_once

_FIELDS = 5


def checked_schedule(schedule: str | None) -> str | None:
    """The cron expression, with single blanks; a warning where it can't be one."""
    if schedule is None:
        return None
    fields = str(schedule).split()
    if len(fields) != _FIELDS and not (len(fields) == 1 and fields[0].startswith("@")):
        warn_once(
            f"The schedule {schedule!r} has {len(fields)} fields; expected five, for example "
            '"0 3 * * *" for every night at three. Missed runs can not be told by it.'
        )
    return " ".join(fields)


def timezone_name(timezone: str | dt.tzinfo | None) -> str:
    """An IANA name (`Europe/Berlin`), or an offset (`UTC+02:00`) where there is no name."""
    if isinstance(timezone, str):
        return timezone
    if timezone is None:
        name = _local_name()
        if name is not None:
            return name
    key = getattr(timezone, "key", None)
    if isinstance(key, str):
        return key
    offset = dt.datetime.now(dt.UTC).astimezone(timezone).strftime("%z")
    return "UTC" if offset in ("+0000", "") else f"UTC{offset[:3]}:{offset[3:5]}"


def _local_name() -> str | None:
    """This machine's time zone, from `TZ` or from what /etc/localtime links to."""
    name = os.environ.get("TZ", "").lstrip(":")
    if "/" in name and not name.startswith("/"):
        return name
    if name:
        return None
    try:
        _, found, zone = str(Path("/etc/localtime").resolve()).rpartition("/zoneinfo/")
    except OSError:
        return None
    return zone if found and "/" in zone else None
