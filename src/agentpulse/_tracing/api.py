"""`session`, `cron`, `agent`, `task`, `trace` and `tool`, and the blocks that `with` returns."""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack, cast, overload

from agentpulse._output import warn_once
from agentpulse._tracing.decorators import Description, Kind, Off, begun, decorated, name_of

if TYPE_CHECKING:
    from agentpulse._tracing.spans import Step

F = TypeVar("F")
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


class Block:
    """A span of an agent, task, trace or tool. Where AgentPulse is off, nothing happens here."""

    def __init__(self, description: Description) -> None:
        """Starts it, and makes it current."""
        self.name: str = description.name
        self._step: Step | Off = begun(description).__enter__()

    def set_attribute(self, name: str, value: object) -> None:
        """Adds an attribute to the span; a value of no type of OpenTelemetry's becomes JSON."""
        self._step.set_attribute(name, value)

    def close(self, error: BaseException | None) -> None:
        """Ends the span; with an exception, as failed."""
        self._step.end(error)


class Session(Block):
    """One run of a session.

    Attributes:
        id: The key under which all of it is found; unique to this run, unless you chose it.
        name: The session's name.
    """

    def __init__(self, description: Description) -> None:
        """Starts it."""
        super().__init__(description)
        run = self._step.run
        self.id: str = description.new_id() if run is None else run.id

    def log(self, message: str, /, **data: object) -> None:
        """Adds a line to the session's log, with the data that belongs to it."""
        self._step.log(message, data)

    def set_result(self, result: object) -> None:
        """Sets the outcome: a word (`"success"`), or any value that can be written as JSON."""
        self._step.set_result(result)

    def set_metadata(self, **values: object) -> None:
        """Adds values that the session, and every span under it from here on, carry.

        Together with those that it has already they are 64 at most; further names are left out.
        """
        self._step.set_metadata(values)

    def set_user(self, user: str) -> None:
        """Sets the user for whom it runs, from here on."""
        self._step.set_user(user)


class Cron(Session):
    """One run of a cron job.

    Attributes:
        run_id: The run's own id, which is its session's too.
        status: "running", then "success" or "error".
        started_at: Seconds since 1970.
    """

    def __init__(self, description: Description) -> None:
        """Starts it."""
        super().__init__(description)
        self.run_id: str = self.id
        self.status: Literal["running", "success", "error"] = "running"
        self.started_at: float = time.time()

    def set_summary(self, summary: str) -> None:
        """Sets a sentence on what the run did."""
        self._step.set_summary(summary)

    def close(self, error: BaseException | None) -> None:
        """Ends the run; with an exception, as failed."""
        failed = error is not None and not isinstance(error, GeneratorExit)
        self.status = "error" if failed else "success"
        super().close(error)


H = TypeVar("H", bound=Block)


class SpanDecorator(Generic[H]):
    """Records each call of a function that it decorates, and each block that it is entered for.

    It can be used as often as wanted, also at the same time in several tasks and threads: each
    call and each block is a span, and a session or run, of its own.
    """

    def __init__(self, description: Description, open_block: Callable[[Description], H]) -> None:
        """`open_block` starts the block that `with` returns."""
        self.description: Description = description
        self._open = open_block
        self._entered: list[tuple[int, H]] = []
        """The blocks that are open, each with the frame that it was entered from."""

    def __call__(self, function: F, /) -> F:
        """Decorates the function or class, whose name is the span's where none was given."""
        given = self.description
        return decorated(function, given if given.name else replace(given, name=name_of(function)))

    def __enter__(self) -> H:
        return self._enter()

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        self._exit(error)

    async def __aenter__(self) -> H:
        return self._enter()

    async def __aexit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        self._exit(error)

    def _enter(self) -> H:
        block = self._open(self.description)
        self._entered.append((_frame_of_with(), block))
        return block

    def _exit(self, error: BaseException | None) -> None:
        # Where several are open: a `with` ends in the frame that it began in, also where that is a
        # generator's, which another task or thread may close. For an `ExitStack` the context
        # decides.
        frame = _frame_of_with()
        of_frame = [each for each in self._entered if each[0] == frame] or self._entered
        current = [each for each in of_frame if each[1]._step.is_current]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this module
        entered = (current or of_frame)[-1]
        self._entered.remove(entered)
        entered[1].close(error)


def _frame_of_with() -> int:
    return id(sys._getframe(3))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no other way


class DecoratorFactory:
    """One of `agent`, `task`, `trace` and `tool`.

    `@tool`, `@tool("search")` and `@tool(name="search")` record each call of a function: plain,
    coroutine, generator of both kinds, method, static and class method. On a class, its public
    methods. `with tool("search"):` and `async with tool("search"):` record a block.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind = kind

    @overload
    def __call__(self, name: str, /, **options: Unpack[Options]) -> SpanDecorator[Block]: ...
    @overload
    def __call__(self, /, **options: Unpack[Options]) -> SpanDecorator[Block]: ...
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
            known = ", ".join(Options.__annotations__)
            message = f"agentpulse.{self._kind} has no option {min(unknown)!r}; expected {known}."
            raise TypeError(message)
        _mapping(self._kind, "attributes", options.get("attributes"))
        name = options.pop("name", None)
        if name is not None and not isinstance(name, str):
            message = f"The name of agentpulse.{self._kind} is {name!r}; expected a text."
            raise TypeError(message)
        if target is None or isinstance(target, str):
            return SpanDecorator(Description(self._kind, name or target or "", **options), Block)
        return decorated(target, Description(self._kind, name or name_of(target), **options))


def session(
    name: str,
    *,
    id: str | None = None,  # noqa: A002  # the word that everybody expects here
    user: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> SpanDecorator[Session]:
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
    given = None if id is None else str(id)
    return SpanDecorator(_run("session", name, user, metadata, id=given), Session)


def cron(
    name: str,
    *,
    schedule: str | None = None,
    timezone: str | dt.tzinfo | None = None,
    max_runtime: float | dt.timedelta | None = None,
    user: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> SpanDecorator[Cron]:
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
    if isinstance(max_runtime, dt.timedelta):
        max_runtime = max_runtime.total_seconds()
    longest = None if max_runtime is None else float(max_runtime)
    zone = None if schedule is None else _timezone_name(timezone)
    job = {"schedule": _checked_schedule(schedule), "timezone": zone, "max_runtime": longest}
    return SpanDecorator(_run("cron", name, user, metadata, **job), Cron)


def _run(kind: Kind, name: object, user: object, metadata: Any, **more: Any) -> Description:
    if callable(name):
        message = f'agentpulse.{kind} needs a name, also as a decorator: @agentpulse.{kind}("…").'
        raise TypeError(message)
    user = None if user is None else str(user)
    metadata = _mapping(kind, "metadata", metadata)
    return Description(kind, str(name), user=user, metadata=metadata, **more)


def _mapping(kind: Kind, option: str, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A copy of the mapping, its names texts."""
    if given is None:
        return None
    if not isinstance(cast("object", given), Mapping):
        found = f"of type {type(given).__name__}"
        message = f"The {option} of agentpulse.{kind} is {found}; expected a mapping."
        raise TypeError(message)
    return {str(name): value for name, value in given.items()}


def _checked_schedule(schedule: str | None) -> str | None:
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


def _timezone_name(timezone: str | dt.tzinfo | None) -> str:
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
    _, found, zone = os.path.realpath("/etc/localtime").rpartition("/zoneinfo/")
    return zone if found and "/" in zone else None


agent: DecoratorFactory = DecoratorFactory("agent")
"""Records calls as runs of an agent (`invoke_agent`)."""
task: DecoratorFactory = DecoratorFactory("task")
"""Records calls as tasks, the steps of an agent's work."""
trace: DecoratorFactory = DecoratorFactory("trace")
"""Records calls as plain spans."""
tool: DecoratorFactory = DecoratorFactory("tool")
"""Records calls as executions of a tool (`execute_tool`)."""
