"""What `agentpulse.task("name")` and its kin return: a decorator, and a context manager."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Generic, TypeVar

from agentpulse.tracing.description import Description
from agentpulse.tracing.handles import Block
from agentpulse.tracing.wrapping import decorated

F = TypeVar("F")
H = TypeVar("H", bound=Block)


class Recording(Generic[H]):
    """Records each call of a function that it decorates, and each block that it is entered for.

    It can be used as often as wanted, also at the same time in several tasks and threads: each
    call and each block is a span, and a session or run, of its own.
    """

    __slots__ = ("_entered", "_open", "description")

    def __init__(self, description: Description, open_block: Callable[[Description], H]) -> None:
        """`open_block` starts what `with` hands out."""
        self.description = description
        self._open = open_block
        self._entered: list[tuple[int, H]] = []
        """The blocks that are open, each with the frame that it was entered from."""

    def __call__(self, function: F, /) -> F:
        """Decorates the function or class."""
        return decorated(function, self.description)

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
        handle = self._open(self.description)
        self._entered.append((id(frame), handle))
        return handle

    def _exit(self, frame: FrameType, error: BaseException | None) -> None:
        entered = _which(self._entered, id(frame))
        self._entered.remove(entered)
        entered[1].close(error)

    def __repr__(self) -> str:
        return f"<agentpulse.{self.description.kind} {self.description.name!r}>"


def _caller() -> FrameType:
    """The frame of the `with`."""
    return sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no other way


def _which(entered: list[tuple[int, H]], frame: int) -> tuple[int, H]:
    """The block that ends here, where several are open at the same time.

    A `with` ends in the frame that it began in, also where that is a generator's, which another
    task or thread may close. Where an `ExitStack` does it, the context tells.
    """
    of_frame = [each for each in entered if each[0] == frame] or entered
    here = [each for each in of_frame if each[1].step is not None and each[1].step.is_here]
    return (here or of_frame)[-1]
