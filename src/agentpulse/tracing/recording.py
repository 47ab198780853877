"""What `agentpulse.task("name")` and its kin return: a decorator, and a context manager."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
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
        self._entered: list[H] = []

    def __call__(self, function: F, /) -> F:
        """Decorates the function or class."""
        return decorated(function, self.description)

    def __enter__(self) -> H:
        handle = self._open(self.description)
        self._entered.append(handle)
        return handle

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        handle = _innermost(self._entered)
        self._entered.remove(handle)
        handle.close(error)

    async def __aenter__(self) -> H:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<agentpulse.{self.description.kind} {self.description.name!r}>"


def _innermost(handles: list[H]) -> H:
    """The block that ends here, where several are open at the same time."""
    here = [handle for handle in handles if handle.step is not None and handle.step.is_here]
    return (here or handles)[-1]
