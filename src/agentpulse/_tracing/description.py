"""The description of a span: made once, when a function is decorated or a block is written."""

from __future__ import annotations

import datetime as dt
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from agentpulse._output import warn_once

Kind = Literal["session", "cron", "agent", "task", "trace", "tool"]
_FIELDS = 5


class Options(TypedDict, total=False):
    """The options of `agent`, `task`, `trace` and `tool`."""

    name: str | None
    """The span's name; by default the function's, or the class's."""
    capture_args: bool | None
    """Whether arguments are captured; None follows `capture_messages`."""
    capture_result: bool | None
    """Whether the result is captured; None follows `capture_messages`."""
    attributes: Mapping[str, Any] | None
    """Further attributes of each span."""


@dataclass(frozen=True, slots=True)
class Description:
    """One kind of span: of a function, a block, a session or a cron job."""

    kind: Kind
    name: str
    capture_args: bool | None = None
    capture_result: bool | None = None
    attributes: Mapping[str, Any] | None = None
    id: str | None = None
    """Of a session."""
    user: str | None = None
    metadata: Mapping[str, Any] | None = None
    """Of a session or cron run, as `user`."""
    schedule: str | None = None
    timezone: str | None = None
    max_runtime: float | None = None
    """Of a cron run: seconds."""
    method: str | None = None
    """Of a decorated class, the method that is called."""
    signature: inspect.Signature | None = field(default=None, compare=False)
    """Has the names of positional arguments."""

    @property
    def is_session(self) -> bool:
        """Whether it is one, or a cron run, which is a session too."""
        return self.kind in ("session", "cron")

    def new_id(self) -> str:
        """The id of a session that begins."""
        return self.id or f"{self.name}:{os.urandom(6).hex()}"


def name_of(target: Any) -> str:
    """The name of a function, method or class as people know it: `Mailer.send`."""
    target = getattr(target, "__func__", target)
    qualified = getattr(target, "__qualname__", None) or type(target).__qualname__
    return qualified.rpartition("<locals>.")[2]


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """The function's signature; None for the few builtins that have none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def seconds(duration: float | dt.timedelta | None) -> float | None:
    """A duration in seconds."""
    if isinstance(duration, dt.timedelta):
        return duration.total_seconds()
    return None if duration is None else float(duration)


def checked_schedule(schedule: str | None) -> str | None:
    """The cron expression, with single blanks; a warning where it can't be one."""
    if schedule is None:
        return None
    fields = str(schedule).split()
    if len(fields) != _FIELDS and not (len(fields) == 1 and fields[0].startswith("@")):
        warn_once(
            f"The schedule {schedule!r} has {len(fields)} fields; expected five, for example "
            '"0 3 * * *" for every night at three. Missed runs can not be reported by it.'
        )
    return " ".join(fields)


def timezone_name(timezone: str | dt.tzinfo | None) -> str:
    """An IANA name (`Europe/Berlin`), or an offset (`UTC+02:00`) where there is no name."""
    if isinstance(timezone, str):
        return timezone
    name: object = _local_name() if timezone is None else getattr(timezone, "key", None)
    if isinstance(name, str):
        return name
    offset = dt.datetime.now(dt.UTC).astimezone(timezone).strftime("%z")
    return "UTC" if offset in ("+0000", "") else f"UTC{offset[:3]}:{offset[3:5]}"


def _local_name() -> str | None:
    """This machine's time zone, from `TZ` or from the target of /etc/localtime."""
    name = os.environ.get("TZ", "").lstrip(":")
    if name:
        return name if "/" in name and not name.startswith("/") else None
    try:
        _, found, zone = str(Path("/etc/localtime").resolve()).rpartition("/zoneinfo/")
    except OSError:
        return None
    return zone if found and "/" in zone else None
