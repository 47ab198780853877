"""Functions with a span around each call, of the same kind as they were.

A coroutine function stays one, a generator function too, so that `inspect` and whoever asks it see
no difference. Where AgentPulse is off, the call passes straight by.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, Generic, TypeVar, cast

from agentpulse._tracing import active
from agentpulse._tracing.description import Description, signature_of
from agentpulse._tracing.handles import Block

F = TypeVar("F")


class _Nothing:
    """A step of which nothing is recorded."""

    def resume(self) -> None: ...
    def suspend(self) -> None: ...
    def ended(self) -> None: ...
    def failed(self, error: BaseException) -> None: ...


_NOTHING = _Nothing()
MARK = "__agentpulse__"
"""The attribute of a wrapped function that holds its description."""


def decorated(target: F, description: Description) -> F:
    """The function, method or class, recorded.

    Raises:
        TypeError: it is something that can't be called.
    """
    if isinstance(target, type):
        _decorate_class(target, description)
        return target
    if isinstance(target, (staticmethod, classmethod)):
        method = cast("Any", target)
        return type(method)(decorated(method.__func__, description))
    if not callable(target):
        message = (
            f"agentpulse.{description.kind} decorates functions and classes, "
            f"not a {type(target).__name__}."
        )
        raise TypeError(message)
    return cast("F", _wrapped(target, replace(description, signature=signature_of(target))))


def _decorate_class(owner: type, description: Description) -> None:
    """Replaces the public methods that the class itself defines; the class stays the same one."""
    fields = inspect.get_annotations(owner)
    for name, member in list(vars(owner).items()):
        # A function that is the default of a field is a value, and no method.
        if (name.startswith("_") and name != "__call__") or name in fields:
            continue
        is_wrapped = isinstance(member, (staticmethod, classmethod))
        function = cast("Any", member).__func__ if is_wrapped else member
        if inspect.isfunction(function) and not hasattr(function, MARK):
            of_method = replace(description, method=f"{description.name}.{name}")
            setattr(owner, name, decorated(member, of_method))


def _wrapped(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        wrap = _around_async_generator
    elif inspect.isgeneratorfunction(function):
        wrap = _around_generator
    elif inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object whose call is a coroutine function
    ):
        wrap = _around_coroutine
    else:
        wrap = _around_function
    wrapper = functools.wraps(function)(wrap(function, description))
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        wrapper = types.coroutine(wrapper)
    setattr(wrapper, MARK, description)
    if description.signature is not None:
        # `inspect.getfullargspec` doesn't look behind a wrapper.
        setattr(wrapper, "__signature__", description.signature)  # noqa: B010  # a function's own type has no such name
    if not inspect.isroutine(function) or hasattr(function, "cache_clear"):
        _keep_methods(function, wrapper)
    return wrapper


def _keep_methods(called: Any, wrapper: Any) -> None:
    """What an object that is called can do beside that: `cache_clear` of a cache, for example."""
    for name in dir(cast("Any", type(called))):
        method = inspect.getattr_static(called, name)
        if not name.startswith("_") and inspect.isroutine(method) and not hasattr(wrapper, name):
            setattr(wrapper, name, getattr(called, name))


def _around_function(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        recorder = active.recorder
        step = None if recorder is None else recorder.begin(description, (args, kwargs))
        if step is None:
            return function(*args, **kwargs)
        step.resume()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            step.failed(error)
            raise
        step.returned(result)
        return result

    return call


def _around_coroutine(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        recorder = active.recorder
        step = None if recorder is None else recorder.begin(description, (args, kwargs))
        if step is None:
            return await function(*args, **kwargs)
        step.resume()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            step.failed(error)
            raise
        step.returned(result)
        return result

    return call


def _around_generator(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        recorder = active.recorder
        step = None if recorder is None else recorder.begin(description, (args, kwargs))
        generator: Generator[Any, Any, Any] = function(*args, **kwargs)
        # What came in and goes out is held no longer than the function itself would hold it.
        del args, kwargs
        if step is None:
            return (yield from generator)
        advance: Callable[[Any], Any] = generator.send
        sent: Any = None
        while True:
            step.resume()
            try:
                items = [advance(sent)]
            except StopIteration as end:
                step.returned(end.value)
                return end.value
            except BaseException as error:
                step.failed(error)
                raise
            finally:
                sent = None
            step.suspend()
            try:
                sent = yield items.pop()
                advance = generator.send
            except BaseException as error:  # noqa: BLE001  # the generator inside is to see it, whatever it is
                sent, advance = error, generator.throw

    return call


def _around_async_generator(
    function: Callable[..., Any], description: Description
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        recorder = active.recorder
        begun = None if recorder is None else recorder.begin(description, (args, kwargs))
        # There is no `yield from` for these, so with nothing to record the way is the same.
        step = begun or _NOTHING
        generator: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        del args, kwargs
        advance: Callable[[Any], Awaitable[Any]] = generator.asend
        sent: Any = None
        while True:
            step.resume()
            try:
                items = [await advance(sent)]
            except StopAsyncIteration:
                step.ended()
                return
            except BaseException as error:
                step.failed(error)
                raise
            finally:
                sent = None
            step.suspend()
            try:
                sent = yield items.pop()
                advance = generator.asend
            except BaseException as error:  # noqa: BLE001  # the generator inside is to see it, whatever it is
                sent, advance = error, generator.athrow

    return call


# What `agentpulse.task("name")` and its kin return: a decorator, and a context manager.

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
