"""Describes a span, and wraps functions in one without changing their kind.

A coroutine function stays one, a generator function too, so that `inspect` and its callers see no
difference. While AgentPulse is off, the function is called at once.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from agentpulse import _tracing

if TYPE_CHECKING:
    from agentpulse._tracing.spans import Step

F = TypeVar("F")
Kind = Literal["session", "cron", "agent", "task", "trace", "tool"]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the named arguments of a function."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a span is started from: its kind, its name and its options."""

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


def _do_nothing(*_args: object, **_options: object) -> None: ...


class Off:
    """Stands in for a step where nothing is recorded."""

    is_current = False
    run = None
    set_attribute = set_metadata = set_user = staticmethod(_do_nothing)
    log = set_result = set_summary = end = staticmethod(_do_nothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def returned(self, result: F) -> F:
        """Passes it on."""
        return result


_OFF = Off()
MARK = "__agentpulse__"
"""The attribute of a wrapped function that holds its description."""


def begun(description: Description, call: Arguments | None = None) -> Step | Off:
    """The step of a block or a call, started but not current yet."""
    recorder = _tracing.active
    return (recorder.begin(description, call) if recorder is not None else None) or _OFF


def name_of(target: Any) -> str:
    """The name of a function, method or class as people know it: `Mailer.send`."""
    target = getattr(target, "__func__", target)
    qualified = getattr(target, "__qualname__", None) or type(target).__qualname__
    return qualified.rpartition("<locals>.")[2]


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
    return cast("F", _wrapped(target, replace(description, signature=_signature_of(target))))


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


def _signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """The function's signature; None for the few builtins that have none."""
    with suppress(TypeError, ValueError):
        return inspect.signature(function)
    return None


def _wrapped(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        wrap = _around_async_generator
    elif inspect.isgeneratorfunction(function):
        wrap = _around_generator
    elif any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None)))):  # noqa: B004  # an object whose call is a coroutine function
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
    _keep_methods(function, wrapper)
    return wrapper


def _keep_methods(called: Any, wrapper: Any) -> None:
    """Copies the methods of an object that is called: `cache_clear` of a cache, for example."""
    for name in dir(cast("Any", type(called))):
        method = inspect.getattr_static(called, name)
        if not name.startswith("_") and inspect.isroutine(method) and not hasattr(wrapper, name):
            setattr(wrapper, name, getattr(called, name))


def _around_function(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if _tracing.active is None:
            return function(*args, **kwargs)
        with begun(description, (args, kwargs)) as step:
            return step.returned(function(*args, **kwargs))

    return call


def _around_coroutine(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if _tracing.active is None:
            return await function(*args, **kwargs)
        with begun(description, (args, kwargs)) as step:
            return step.returned(await function(*args, **kwargs))

    return call


def _around_generator(function: Callable[..., Any], description: Description) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        step = begun(description, (args, kwargs))
        generator: Generator[Any, Any, Any] = function(*args, **kwargs)
        # Arguments and values are held no longer than the function itself would hold them.
        del args, kwargs
        if step is _OFF:
            return (yield from generator)
        advance: Callable[[Any], Any] = generator.send
        given: Any = None
        while True:
            with step:
                try:
                    items = [advance(given)]
                except StopIteration as end:
                    return step.returned(end.value)
                finally:
                    given = None
            try:
                given, advance = (yield items.pop()), generator.send
            except BaseException as error:  # noqa: BLE001  # the generator inside is to see it, whatever it is
                given, advance = error, generator.throw

    return call


def _around_async_generator(
    function: Callable[..., Any], description: Description
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        # There is no `yield from` for these, so with nothing to record the way is the same.
        step = begun(description, (args, kwargs))
        generator: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        del args, kwargs
        advance: Callable[[Any], Awaitable[Any]] = generator.asend
        given: Any = None
        while True:
            with step:
                try:
                    items = [await advance(given)]
                except StopAsyncIteration:
                    step.end()
                    return
                finally:
                    given = None
            try:
                given, advance = (yield items.pop()), generator.asend
            except BaseException as error:  # noqa: BLE001  # the generator inside is to see it, whatever it is
                given, advance = error, generator.athrow

    return call
