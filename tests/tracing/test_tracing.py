"""Decorated functions and blocks: they do what they did, and a span records how it went."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import pickle
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest
from agentpulse_instrumentation._engine import patching
from fakes.program import Init
from fakes.receiver import Receiver
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import agentpulse


def ends(events: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    return [
        (event["data"]["name"], event["data"]["status"], event["data"]["error_type"])
        for event in events
        if event["kind"] == "span_end"
    ]


def current() -> str | None:
    span = trace.get_current_span()
    return getattr(span, "name", None)


def test_a_function_returns_what_it_returned_and_its_error_leaves_as_the_same_object(
    started: Init,
) -> None:
    events = started()
    answer, error = object(), KeyError("secret")

    @agentpulse.task
    def work(*, fail: bool) -> object:
        assert current() == "work"
        if fail:
            raise error
        return answer

    assert work(fail=False) is answer
    with pytest.raises(KeyError) as caught:
        work(fail=True)
    assert caught.value is error
    assert current() is None
    assert ends(events()) == [("work", "success", None), ("work", "error", "KeyError")]
    assert "secret" not in str(events())


def test_decorated_functions_are_of_the_kind_they_were(started: Init) -> None:
    def plain(a: int, *, b: str = "") -> None:
        """Says so."""

    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncGenerator[int, None]:
        yield 1

    for function in (plain, coroutine, generator, async_generator):
        wrapped = agentpulse.tool(function)
        for ask in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
            inspect.signature,
            inspect.getdoc,
        ):
            assert ask(wrapped) == ask(function)
        assert wrapped.__name__ == function.__name__
        assert wrapped.__wrapped__ is function


def test_a_generator_speaks_the_whole_protocol_and_is_current_only_in_its_body(
    started: Init,
) -> None:
    events = started()
    seen: list[Any] = []

    @agentpulse.task
    def talk() -> Generator[str, str, str]:
        seen.append(current())
        heard = yield "first"
        seen.append((heard, current()))
        try:
            yield "second"
        except ValueError as error:
            seen.append((error, current()))
        return "end"

    talking = talk()
    assert seen == []
    assert next(talking) == "first"
    name = "talk"
    assert (seen.pop(), current()) == (name, None)
    assert talking.send("hello") == "second"
    assert seen.pop() == ("hello", name)
    thrown = ValueError()
    with pytest.raises(StopIteration) as ended:
        talking.throw(thrown)
    assert ended.value.value == "end"
    assert seen.pop() == (thrown, name)
    assert current() is None
    assert ends(events()) == [(name, "success", None)]


def test_a_generator_that_is_left_before_its_end_did_not_fail(started: Init) -> None:
    events = started()
    closed = []

    @agentpulse.task
    def count() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(current())

    counting = count()
    next(counting)
    counting.close()
    assert closed == ["count"]
    assert ends(events()) == [("count", "success", None)]


def test_a_generator_that_ignores_its_end_raises_as_ever(started: Init) -> None:
    started()

    @agentpulse.task
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    going = stubborn()
    next(going)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        going.close()


def test_an_async_generator_speaks_the_whole_protocol(started: Init) -> None:
    events = started()
    seen: list[Any] = []

    @agentpulse.task
    async def talk() -> AsyncGenerator[str, str]:
        heard = yield "first"
        await asyncio.sleep(0)
        seen.append((heard, current()))
        try:
            yield "second"
        except ValueError as error:
            seen.append((error, current()))
            yield "third"

    async def program() -> None:
        talking = talk()
        assert await anext(talking) == "first"
        assert current() is None
        assert await talking.asend("hello") == "second"
        thrown = ValueError()
        assert await talking.athrow(thrown) == "third"
        assert seen == [("hello", "talk"), (thrown, "talk")]
        await talking.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(talking)
        assert [item async for item in talk()] == ["first", "second"]

    asyncio.run(program())
    assert ends(events()) == [("talk", "success", None)] * 2


def test_a_span_that_a_generator_opened_stays_inside_it(started: Init) -> None:
    events = started()

    @agentpulse.task
    def outer() -> Iterator[int]:
        with agentpulse.task("inner"):
            yield 1
            with agentpulse.task("innermost"):
                yield 2
            assert current() == "inner"

    for _ in outer():
        assert current() is None
    received = {event["data"]["name"]: event for event in events()}
    assert received["innermost"]["parent_span_id"] == received["inner"]["span_id"]
    assert received["inner"]["parent_span_id"] == received["outer"]["span_id"]


def test_nothing_that_is_abandoned_or_cancelled_logs_of_another_context(
    started: Init, caplog: pytest.LogCaptureFixture
) -> None:
    events = started()
    held: list[Any] = []

    @agentpulse.task
    def left() -> Iterator[int]:
        with agentpulse.session("left"):
            yield 1
            yield 2

    @agentpulse.task
    async def stream() -> AsyncGenerator[int, None]:
        async with agentpulse.agent("stream"):
            yield 1
            await asyncio.sleep(60)
            yield 2

    @agentpulse.tool
    async def forever() -> None:
        await asyncio.sleep(60)

    async def begin() -> None:
        generator, chunks = left(), stream()
        next(generator)
        await anext(chunks)
        held.extend((generator, chunks))

    async def end() -> None:
        held[0].close()
        await held[1].aclose()

    async def program() -> None:
        await asyncio.create_task(begin())
        await asyncio.create_task(end())
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        abandoned = stream()
        await anext(abandoned)

    asyncio.run(program())
    next(left())
    assert [record for record in caplog.records if "ontext" in record.getMessage()] == []
    received = ends(events())
    assert received.count(("left", "success", None)) == 2
    assert ("stream", "success", None) in received
    # The end of the loop cancels what closes the stream that was dropped.
    assert len([name for name, _, _ in received if name == "stream"]) == 2
    assert ("execute_tool forever", "error", "CancelledError") in received


def test_methods_of_all_sorts_can_be_decorated(started: Init) -> None:
    events = started(capture_messages=True)

    class Box:
        @agentpulse.task
        def plain(self, x: int) -> int:
            return x

        @agentpulse.task
        @classmethod
        def of_class(cls, x: int) -> tuple[type, int]:
            return cls, x

        @staticmethod
        @agentpulse.task
        def static(x: int) -> int:
            return x

    assert Box().plain(1) == 1
    assert Box.of_class(2) == (Box, 2)
    assert Box().static(3) == 3
    received = [(e["data"]["name"], e["data"]["args"]) for e in events()]
    assert received == [
        (
            "test_methods_of_all_sorts_can_be_decorated.<locals>.Box.plain".rpartition(">.")[2],
            {"x": 1},
        ),
        ("Box.of_class", {"x": 2}),
        ("Box.static", {"x": 3}),
    ]


@agentpulse.agent
class Mailer:
    """An agent that is a class."""

    limit = 3

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self) -> str:
        return f"{self.name} {self.helped()} {self._private()}"

    def helped(self) -> int:
        return self.limit

    def _private(self) -> str:
        return "private"

    @agentpulse.tool
    def look_up(self) -> None: ...

    @property
    def size(self) -> int:
        return 1


class LoudMailer(Mailer):
    def run(self) -> str:
        return super().run().upper()


def test_a_decorated_class_is_the_class_it_was(started: Init) -> None:
    events = started()
    mailer = Mailer("ada")
    assert isinstance(mailer, Mailer)
    assert pickle.loads(pickle.dumps(mailer)).name == "ada"
    assert inspect.isclass(Mailer)
    assert mailer.run() == "ada 3 private"
    assert LoudMailer("bob").run() == "BOB 3 PRIVATE"
    mailer.look_up()
    assert mailer.size == 1
    received = [event for event in events() if event["kind"] == "span_end"]
    assert [(e["data"]["name"], e["data"]["span_kind"]) for e in received] == [
        ("Mailer.helped", "task"),
        ("invoke_agent Mailer", "agent"),
        ("Mailer.helped", "task"),
        ("invoke_agent Mailer", "agent"),
        ("execute_tool Mailer.look_up", "tool"),
    ]


def test_blocks_give_a_handle_and_several_can_be_open_at_once(started: Init) -> None:
    events = started()
    step = agentpulse.trace("step", attributes={"a": {"b": 1}})

    async def program() -> None:
        async def enter(number: int) -> None:
            async with step as block:
                block.set_attribute("number", number)
                await asyncio.sleep(0.01 * (3 - number))

        await asyncio.gather(*map(enter, range(3)))

    asyncio.run(program())
    received = events()
    assert [event["data"]["attributes"]["number"] for event in received] == [2, 1, 0]
    assert {event["data"]["attributes"]["a"] for event in received} == {'{"b": 1}'}


def test_arguments_and_results_are_captured_only_where_they_are_wanted(started: Init) -> None:
    events = started()

    @agentpulse.tool
    def silent(secret: str) -> str:
        return secret

    @agentpulse.tool(capture_args=True)
    def asked(query: str, *rest: int) -> str:
        return "a secret"

    @agentpulse.task(capture_result=True)
    def captured(_secret: str) -> list[int]:
        return [1, 2]

    silent("a secret")
    asked("cats", 1, 2)
    captured("a secret")
    of_silent, of_asked, of_reporting = (event["data"] for event in events())
    assert "args" not in of_silent
    assert of_asked["args"] == {"query": "cats", "rest": [1, 2]}
    assert "result" not in of_asked
    assert of_reporting["result"] == [1, 2]
    assert "args" not in of_reporting
    assert "a secret" not in str(events())


def test_with_capture_a_function_can_still_keep_its_own(started: Init) -> None:
    events = started(capture_messages=True)

    @agentpulse.tool(capture_args=False, capture_result=False)
    def silent(secret: str) -> str:
        return secret

    silent("a secret")
    assert "a secret" not in str(events())


def test_values_are_captured_without_running_any_code_of_theirs(started: Init) -> None:
    events = started(capture_messages=True)

    class Mine:
        def __repr__(self) -> str:
            raise AssertionError

        __str__ = __repr__

    endless: list[Any] = []
    endless.append(endless)

    @agentpulse.task
    def work(*_anything: object) -> None: ...

    work(Mine(), {"x": "y" * 1_000_000}, endless, float("nan"), 10**400, b"bytes", range(9))
    (event,) = events()
    received = event["data"]["args"]["_anything"]
    assert received[0] == "<Mine>"
    assert len(received[1]["x"]) < 5_000
    assert received[3:5] == [None, None]


def test_wrong_arguments_fail_as_they_did(started: Init) -> None:
    events = started(capture_messages=True)

    @agentpulse.task
    def work(a: int) -> int:
        return a

    with pytest.raises(TypeError, match="unexpected keyword argument 'b'"):
        work(b=1)  # type: ignore[call-arg]
    assert ends(events()) == [("work", "error", "TypeError")]


@pytest.mark.parametrize("state", ["before", "off", "after"])
def test_where_nothing_is_recorded_everything_is_as_undecorated(
    state: str, strict_receiver: Receiver, provider: TracerProvider
) -> None:
    if state == "off":
        agentpulse.init(enabled=False)
    elif state == "after":
        agentpulse.init(endpoint=strict_receiver.url, tracer_provider=provider)
        agentpulse.shutdown()

    @agentpulse.tool
    def add(a: int, b: int = 1) -> int:
        return a + b

    @agentpulse.task
    def count() -> Generator[int, int, int]:
        return (yield 1)

    @agentpulse.task
    async def acount() -> AsyncGenerator[int, int]:
        heard = yield 1
        yield heard

    async def read() -> tuple[int, int]:
        counting = acount()
        return await anext(counting), await counting.asend(7)

    before = len(strict_receiver.events)
    assert add(1, b=2) == 3
    counting = count()
    assert next(counting) == 1
    with pytest.raises(StopIteration) as ended:
        counting.send(5)
    assert ended.value.value == 5
    assert asyncio.run(read()) == (1, 7)
    with agentpulse.session("s", id="given") as session:
        session.log("x", y=1)
        session.set_result("success")
        session.set_metadata(z=1)
        assert session.id == "given"
    with agentpulse.cron("c") as run:
        run.set_summary("x")
    assert run.status == "success"
    assert run.run_id.startswith("c:")
    for use in (
        lambda: agentpulse.event("e"),
        lambda: agentpulse.metric("m", 1),
        lambda: agentpulse.alert("a"),
        agentpulse.heartbeat,
        lambda: agentpulse.memory_report("f", 1),
        lambda: agentpulse.set_metadata(a=1),
        lambda: agentpulse.set_user("u"),
    ):
        use()
    assert len(strict_receiver.events) == before


def test_what_a_function_sets_in_its_context_its_caller_sees(started: Init) -> None:
    started()
    variable = contextvars.ContextVar("variable", default=0)

    @agentpulse.task
    def function() -> None:
        variable.set(1)

    @agentpulse.task
    async def coroutine() -> None:
        variable.set(2)

    async def program() -> int:
        await coroutine()
        return variable.get()

    function()
    assert variable.get() == 1
    assert asyncio.run(program()) == 2


def test_callables_that_are_no_functions_can_be_decorated(started: Init) -> None:
    events = started()

    class Doubler:
        def __call__(self, number: int) -> int:
            return number * 2

    assert agentpulse.tool(functools.partial(int, "5"))() == 5
    assert agentpulse.tool(len)([1, 2]) == 2
    assert agentpulse.tool(Doubler())(3) == 6
    assert [name for name, _, _ in ends(events())] == [
        "execute_tool partial",
        "execute_tool len",
        "execute_tool Doubler",
    ]


def test_an_error_that_can_not_be_recorded_leaves_as_it_came(
    started: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    events = started(capture_messages=True)

    class EvilError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    @agentpulse.task
    def work() -> None:
        raise EvilError

    with pytest.raises(EvilError):
        work()
    assert [name for name, _, _ in ends(events())] == ["work"]


def test_a_decorator_from_before_init_records_once_init_ran(started: Init) -> None:
    @agentpulse.task
    def work() -> None: ...

    work()
    events = started()
    work()
    assert ends(events()) == [("work", "success", None)]


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (lambda: agentpulse.tool(capture_arg=True), "has no option 'capture_arg'"),
        (lambda: agentpulse.trace(name=5), "name of agentpulse.trace is 5; expected a text"),
        (lambda: agentpulse.task(5), "decorates functions and classes, not a int"),
    ],
)
def test_a_wrong_use_raises_at_once_with_what_is_wrong(
    use: Callable[[], Any], complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        use()


def test_attributes_of_a_class_that_are_no_methods_stay_what_they_are() -> None:
    class Log:
        def info(self, text: str) -> str:
            return f"logged {text}"

    bound, convert = Log().info, str.upper

    def default() -> str:
        return "default"

    @agentpulse.agent
    class Clerk:
        log = bound
        change = staticmethod(convert)
        answer: Callable[[], str] = default

        def run(self) -> str:
            return self.log("x")

    assert Clerk().run() == "logged x"
    assert vars(Clerk)["log"] is bound
    assert vars(Clerk)["answer"] is default
    assert Clerk.change("a") == "A"


def test_what_is_asked_of_a_decorated_function_is_answered_as_before() -> None:
    def send(to: str, subject: str = "none", *, urgent: bool = False) -> int:
        return len(to) + len(subject) + urgent

    decorated = agentpulse.task(send)
    assert inspect.getfullargspec(decorated) == inspect.getfullargspec(send)
    assert inspect.signature(decorated) == inspect.signature(send)


def test_a_cached_function_keeps_what_its_cache_can_do(started: Init) -> None:
    events = started()

    @agentpulse.task
    @functools.lru_cache
    def double(number: int) -> int:
        return 2 * number

    cached: Any = double
    assert (double(2), double(2)) == (4, 4)
    assert cached.cache_info().hits == 1
    cached.cache_clear()
    assert cached.cache_info().currsize == 0
    assert len(ends(events())) == 2


def test_a_generator_that_is_a_coroutine_can_be_awaited(started: Init) -> None:
    events = started()

    @agentpulse.task
    @types.coroutine
    def pause() -> Generator[None, None, str]:
        yield
        return "rested"

    async def run() -> str:
        answer: str = await pause()
        return answer

    assert asyncio.run(run()) == "rested"
    assert [name for name, *_ in ends(events())] == ["pause"]


class Held(ValueError):  # noqa: N818  # it is an error for the sake of one line
    """Something whose end can be seen."""


@pytest.mark.parametrize("kind", ["plain", "decorated"])
def test_nothing_is_kept_alive_longer_than_the_function_keeps_it(started: Init, kind: str) -> None:
    started()

    def echo(given: Any) -> Generator[Any, Any, None]:
        del given
        while True:
            try:
                sent = yield Held()
                del sent
            except ValueError:
                pass

    make = agentpulse.task(echo) if kind == "decorated" else echo
    argument, message, error = Held(), Held(), Held()
    generator = make(argument)
    gc.disable()
    try:
        seen = [weakref.ref(each) for each in (argument, message, error)]
        seen.append(weakref.ref(next(generator)))
        generator.send(message)
        generator.throw(error)
        error.__traceback__ = None
        del argument, message, error
        assert [ref() for ref in seen] == [None] * 4
    finally:
        gc.enable()
        generator.close()


@pytest.mark.parametrize("kind", ["session", "cron"])
def test_a_decorator_without_its_name_raises_at_once(kind: str) -> None:
    decorator: Any = getattr(agentpulse, kind)
    with pytest.raises(TypeError, match=rf"agentpulse\.{kind} needs a name"):

        @decorator
        def job() -> None: ...


@pytest.mark.parametrize("kind", ["session", "cron"])
def test_metadata_that_is_no_mapping_raises_at_once(kind: str) -> None:
    odd: Any = [("team", "mail")]
    with pytest.raises(TypeError, match="expected a mapping"):
        getattr(agentpulse, kind)("day", metadata=odd)
    with pytest.raises(TypeError, match="expected a mapping"):
        agentpulse.tool("search", attributes=odd)


def test_ids_and_users_of_any_type_are_texts(started: Init) -> None:
    events = started()
    odd: Any = 42
    with agentpulse.session("chat", id=odd, user=odd, metadata={odd: odd}) as session:
        agentpulse.event("happened")
    assert session.id == "42"
    (event,) = (event for event in events() if event["kind"] == "event")
    assert (event["session"], event["data"]["name"]) == ("42", "happened")
