"""Read by pyright and mypy, never run: what type checkers see of decorated things is unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar, assert_type

import agentpulse

T = TypeVar("T")


@agentpulse.task
def plain(a: int, *, b: str = "") -> list[str]:
    return [b] * a


@agentpulse.tool("look-up")
def named(query: str) -> bytes:
    return query.encode()


@agentpulse.trace(name="generic", capture_args=True)
def generic(value: T) -> T:
    return value


@agentpulse.agent
async def coroutine(a: int) -> float:
    return float(a)


@agentpulse.session("daily-email")
def generator() -> Iterator[int]:
    yield 1


@agentpulse.cron("nightly", schedule="0 3 * * *")
async def async_generator() -> AsyncIterator[int]:
    yield 1


@agentpulse.agent(name="mailer")
class Mailer:
    def __init__(self, name: str) -> None:
        self.name = name

    @agentpulse.tool
    def send(self, to: str) -> bool:
        return bool(to)

    @classmethod
    @agentpulse.task
    def made(cls) -> Mailer:
        return cls("made")

    @staticmethod
    @agentpulse.task
    def static(a: int) -> int:
        return a


class Loud(Mailer): ...


assert_type(plain(1, b="x"), list[str])
assert_type(named("x"), bytes)
assert_type(generic(1.5), float)
assert_type(asyncio.run(coroutine(1)), float)
assert_type(generator(), Iterator[int])
assert_type(async_generator(), AsyncIterator[int])
assert_type(Mailer("x"), Mailer)
assert_type(Mailer("x").send("y"), bool)
assert_type(Mailer.made(), Mailer)
assert_type(Mailer.static(1), int)
assert_type(Loud("x").name, str)

as_callable: Callable[[int], Awaitable[float]] = coroutine

plain("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
named(query=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
agentpulse.tool(capture=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

with agentpulse.session("s") as s, agentpulse.cron("c") as c, agentpulse.task("t") as t:
    assert_type(s, agentpulse.Session)
    assert_type(c, agentpulse.Cron)
    assert_type(t, agentpulse.Block)
    assert_type(s.id, str)
    assert_type(c.run_id, str)
