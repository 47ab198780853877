"""What is to be recorded: described once, when a function is decorated or a block is made."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict

Kind = Literal["session", "cron", "agent", "task", "trace", "tool"]


class Options(TypedDict, total=False):
    """What `agent`, `task`, `trace` and `tool` can be told."""

    name: str | None
    """The span's name; by default the function's, or the class's."""
    capture_args: bool | None
    """Whether arguments are recorded; None follows `capture_messages`."""
    capture_result: bool | None
    """Whether the result is recorded; None follows `capture_messages`."""
    attributes: Mapping[str, Any] | None
    """Further attributes of each span."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What makes a session or a cron run one."""

    id: str | None = None
    user: str | None = None
    metadata: Mapping[str, Any] | None = None
    schedule: str | None = None
    timezone: str | None = None
    max_runtime: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Description:
    """One kind of span: of a function, a block, a session or a cron job."""

    kind: Kind
    name: str
    capture_args: bool | None = None
    capture_result: bool | None = None
    attributes: Mapping[str, Any] | None = None
    session: SessionOptions | None = None
    method: str | None = None
    """Of a decorated class, the method that is called."""
    signature: inspect.Signature | None = field(default=None, compare=False)
    """Tells the names of positional arguments."""

    def named(self, name: str) -> Description:
        """The same under another name."""
        return replace(self, name=name)


def name_of(target: Any) -> str:
    """The name of a function or class as people know it: `Mailer.send`, without `<locals>`."""
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
