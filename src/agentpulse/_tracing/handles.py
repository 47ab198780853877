"""`Block`, `Session` and `Cron`, which `with agentpulse.session(...) as s` and its kin return."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from agentpulse._tracing.decorators import OFF, Off, begun, decorated
from agentpulse._tracing.description import Description, name_of

if TYPE_CHECKING:
    from agentpulse._tracing.step import Step

F = TypeVar("F")


class Block:
    """A span of an agent, task, trace or tool. Where AgentPulse is off, nothing happens here."""

    def __init__(self, description: Description) -> None:
        """Starts it, and makes it current."""
        self.name = description.name
        self.step: Step | Off = begun(description) or OFF
        self.step.resume()

    def set_attribute(self, name: str, value: object) -> None:
        """Adds an attribute to the span; a value of no type of OpenTelemetry's becomes JSON."""
        self.step.set_attribute(name, value)

    def close(self, error: BaseException | None) -> None:
        """Ends the span; with an exception, as failed."""
        self.step.end(error)


class Session(Block):
    """One run of a session.

    Attributes:
        id: The key under which all of it is found; unique to this run, unless you chose it.
        name: The session's name.
    """

    def __init__(self, description: Description) -> None:
        """Starts it."""
        super().__init__(description)
        run = self.step.run
        self.id = description.new_id() if run is None else run.id

    def log(self, message: str, /, **data: object) -> None:
        """Adds a line to the session's log, with the data that belongs to it."""
        self.step.log(message, data)

    def set_result(self, result: object) -> None:
        """Sets the outcome: a word (`"success"`), or any value that can be written as JSON."""
        self.step.set_result(result)

    def set_metadata(self, **values: object) -> None:
        """Adds values that the session, and every span under it from here on, carry.

        Together with those that it has already they are 64 at most; further names are left out.
        """
        self.step.set_metadata(values)

    def set_user(self, user: str) -> None:
        """Sets the user for whom it runs, from here on."""
        self.step.set_user(user)


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
        self.run_id = self.id
        self.status: Literal["running", "success", "error"] = "running"
        self.started_at = time.time()

    def set_summary(self, summary: str) -> None:
        """Sets a sentence on what the run did."""
        self.step.set_summary(summary)

    def close(self, error: BaseException | None) -> None:
        """Ends the run; with an exception, as failed."""
        failed = error is not None and not isinstance(error, GeneratorExit)
        self.status = "error" if failed else "success"
        super().close(error)


H = TypeVar("H", bound=Block)


class Recording(Generic[H]):
    """Records each call of a function that it decorates, and each block that it is entered for.

    It can be used as often as wanted, also at the same time in several tasks and threads: each
    call and each block is a span, and a session or run, of its own.
    """

    __slots__ = ("_entered", "_open", "description")

    def __init__(self, description: Description, open_block: Callable[[Description], H]) -> None:
        """`open_block` starts the block that `with` returns."""
        self.description = description
        self._open = open_block
        self._entered: list[tuple[int, H]] = []
        """The blocks that are open, each with the frame that it was entered from."""

    def __call__(self, function: F, /) -> F:
        """Decorates the function or class, whose name is the span's where none was given."""
        given = self.description
        return decorated(function, given if given.name else replace(given, name=name_of(function)))

    def __enter__(self) -> H:
        return self._enter(_caller())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit(_caller(), error)

    async def __aenter__(self) -> H:
        return self._enter(_caller())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit(_caller(), error)

    def _enter(self, frame: FrameType) -> H:
        block = self._open(self.description)
        self._entered.append((id(frame), block))
        return block

    def _exit(self, frame: FrameType, error: BaseException | None) -> None:
        # Where several are open: a `with` ends in the frame that it began in, also where that is a
        # generator's, which another task or thread may close. For an `ExitStack` the context
        # decides.
        of_frame = [each for each in self._entered if each[0] == id(frame)] or self._entered
        current = [each for each in of_frame if each[1].step.is_current]
        entered = (current or of_frame)[-1]
        self._entered.remove(entered)
        entered[1].close(error)

    def __repr__(self) -> str:
        return f"<agentpulse.{self.description.kind} {self.description.name!r}>"


def _caller() -> FrameType:
    """The frame of the `with`."""
    return sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no other way
