"""`session`, `cron`, `agent`, `task`, `trace` and `tool`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, TypeVar, Unpack, cast, overload

from agentpulse._tracing.decorators import decorated
from agentpulse._tracing.description import (
    Description,
    Kind,
    Options,
    SessionOptions,
    checked_schedule,
    name_of,
    seconds,
    timezone_name,
)
from agentpulse._tracing.handles import Block, Cron, Recording, Session

F = TypeVar("F")


class Recorded:
    """One of `agent`, `task`, `trace` and `tool`.

    `@tool`, `@tool("search")` and `@tool(name="search")` record each call of a function: plain,
    coroutine, generator of both kinds, method, static and class method. On a class, its public
    methods. `with tool("search"):` and `async with tool("search"):` record a block.
    """

    __slots__ = ("_kind",)

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind

    @overload
    def __call__(self, name: str, /, **options: Unpack[Options]) -> Recording[Block]: ...
    @overload
    def __call__(self, /, **options: Unpack[Options]) -> Recording[Block]: ...
    @overload
    def __call__(self, function: F, /) -> F: ...
    def __call__(self, target: Any = None, /, **options: Any) -> Any:
        """A decorator, or the decorated function.

        Args:
            target: A function or class, or the name of the span.
            options: `name`, `capture_args`, `capture_result` (None: as `capture_messages` says)
                and `attributes`, which every span gets.
        """
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            message = (
                f"agentpulse.{self._kind} has no option {min(unknown)!r}; "
                f"expected one of {', '.join(Options.__annotations__)}."
            )
            raise TypeError(message)
        _mapping(self._kind, "attributes", options.get("attributes"))
        name = options.pop("name", None)
        if name is not None and not isinstance(name, str):
            message = f"The name of agentpulse.{self._kind} is {name!r}; expected a text."
            raise TypeError(message)
        if target is None or isinstance(target, str):
            return Recording(Description(self._kind, name or target or "", **options), Block)
        return decorated(target, Description(self._kind, name or name_of(target), **options))

    def __repr__(self) -> str:
        return f"<agentpulse.{self._kind}>"


def session(
    name: str,
    *,
    id: str | None = None,  # noqa: A002  # the word that everybody expects here
    user: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Recording[Session]:
    """A session: the spans inside belong together, and their cost is summed up.

    `with session("daily-email") as s:`, `async with`, or a decorator, which makes each call a
    session.

    Args:
        name: The name of sessions of this sort.
        id: The key of this session, where several processes share one; by default a new one each
            time, `name:` and twelve hexadecimal digits.
        user: The user for whom it runs; every span in it carries it as `user.id`.
        metadata: Values that every span in it carries; of more than 64, the first ones.

    Raises:
        TypeError: there is no name, or metadata is no mapping.
    """
    options = SessionOptions(
        id=None if id is None else str(id),
        user=None if user is None else str(user),
        metadata=_mapping("session", "metadata", metadata),
    )
    return Recording(Description("session", _named("session", name), session=options), Session)


def cron(
    name: str,
    *,
    schedule: str | None = None,
    timezone: str | dt.tzinfo | None = None,
    max_runtime: float | dt.timedelta | None = None,
    user: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Recording[Cron]:
    """A run of a cron job, which is a session too: its outcome, duration and cost are reported.

    `with cron("nightly-cleanup", schedule="0 3 * * *") as c:`, `async with`, or a decorator, which
    makes each call a run. An exception, Ctrl-C, an exit or a cancelled task makes the run fail,
    and goes on as it came.

    Args:
        name: The job.
        schedule: When it is to run, as a cron expression of five fields, so that a receiver can
            report which runs are late or missing.
        timezone: The schedule's time zone, as an IANA name or a `tzinfo`; by default this
            machine's.
        max_runtime: How long a run may take, in seconds or as a timedelta.
        user: The user for whom it runs.
        metadata: Values that every span in it carries; of more than 64, the first ones.

    Raises:
        TypeError: there is no name, or metadata is no mapping.
    """
    options = SessionOptions(
        user=None if user is None else str(user),
        metadata=_mapping("cron", "metadata", metadata),
        schedule=checked_schedule(schedule),
        timezone=None if schedule is None else timezone_name(timezone),
        max_runtime=seconds(max_runtime),
    )
    return Recording(Description("cron", _named("cron", name), session=options), Cron)


def _named(kind: Kind, name: object) -> str:
    if callable(name):
        message = f'agentpulse.{kind} needs a name, also as a decorator: @agentpulse.{kind}("…").'
        raise TypeError(message)
    return str(name)


def _mapping(kind: Kind, option: str, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A copy of the mapping, its names texts."""
    if given is None:
        return None
    if not isinstance(cast("object", given), Mapping):
        message = (
            f"The {option} of agentpulse.{kind} is of type {type(given).__name__}; "
            "expected a mapping."
        )
        raise TypeError(message)
    return {str(name): value for name, value in given.items()}


agent = Recorded("agent")
"""Records calls as runs of an agent (`invoke_agent`)."""
task = Recorded("task")
"""Records calls as tasks, the steps of an agent's work."""
trace = Recorded("trace")
"""Records calls as plain spans."""
tool = Recorded("tool")
"""Records calls as executions of a tool (`execute_tool`)."""
