"""Functions with a span around each call, of the same kind as they were.

A coroutine function stays one, a generator function too, so that `inspect` and whoever asks it see
no difference. Where AgentPulse is off, the call passes straight by.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import replace
from typing import Any, TypeVar, cast

from agentpulse.tracing import active
from agentpulse.tracing.description import Description, signature_of

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
    for name, member in list(vars(owner).items()):
        if name.startswith("_") and name != "__call__":
            continue
        function = getattr(member, "__func__", member)
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
    setattr(wrapper, MARK, description)
    return wrapper


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
        if step is None:
            return (yield from generator)
        advance: Callable[[Any], Any] = generator.send
        sent: Any = None
        while True:
            step.resume()
            try:
                item = advance(sent)
            except StopIteration as end:
                step.returned(end.value)
                return end.value
            except BaseException as error:
                step.failed(error)
                raise
            step.suspend()
            try:
                sent = yield item
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
        advance: Callable[[Any], Awaitable[Any]] = generator.asend
        sent: Any = None
        while True:
            step.resume()
            try:
                item = await advance(sent)
            except StopAsyncIteration:
                step.ended()
                return
            except BaseException as error:
                step.failed(error)
                raise
            step.suspend()
            try:
                sent = yield item
                advance = generator.asend
            except BaseException as error:  # noqa: BLE001  # the generator inside is to see it, whatever it is
                sent, advance = error, generator.athrow

    return call
