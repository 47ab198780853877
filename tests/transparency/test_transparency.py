"""A caller can't report an instrumented client from a bare one."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anthropic
import anthropic._base_client
import openai
import openai._base_client
import pytest
from agentpulse_instrumentation import uninstrument
from fakes.provider import (
    Change,
    FakeProvider,
    Reply,
    broken,
    cut,
    ended,
    fails,
    held_by,
    is_no_json,
    without_usage,
)
from pydantic import BaseModel

Way = Callable[[Any, dict[str, Any]], Awaitable[Any]]


class Mails(BaseModel):
    mails: int


HELLO = [{"role": "user", "content": "What is new?"}]
BODIES: dict[str, dict[str, Any]] = {
    "openai chat.completions": {"model": "gpt-4o", "messages": HELLO},
    "openai responses": {"model": "gpt-4o", "input": "What is new?"},
    "openai completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "What is new?"},
    "openai embeddings": {"model": "text-embedding-3-small", "input": "What is new?"},
    "anthropic messages": {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": HELLO},
    "anthropic beta.messages": {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": HELLO},
}
SCHEMAS = {"openai chat.completions": "response_format", "openai responses": "text_format"}


# One text for sync and async clients: what is to be awaited is, the rest is taken as it is.


async def got(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def read(items: Any) -> list[Any]:
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


async def following(items: Any) -> Any:
    return await anext(items) if hasattr(items, "__anext__") else next(items)


@asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


# The ways to call. Each returns all that its caller sees.


async def plain(resource: Any, body: dict[str, Any]) -> Any:
    return await got(resource.create(**body))


async def stream(resource: Any, body: dict[str, Any]) -> Any:
    opened = await got(resource.create(**body, stream=True))
    before = type(opened), public(opened), opened.response.is_closed
    return before, await read(opened), public(opened), opened.response.is_closed


async def stream_left(resource: Any, body: dict[str, Any]) -> Any:
    async with entered(await got(resource.create(**body, stream=True))) as opened:
        first = await following(opened)
    return first, opened.response.is_closed


async def raw(resource: Any, body: dict[str, Any]) -> Any:
    response = await got(resource.with_raw_response.create(**body))
    http = response.http_response
    parsed = await got(response.parse())
    seen = type(response), public(response), response.status_code, parsed
    return seen, http.content, public(http), pickles(http)


async def raw_stream(resource: Any, body: dict[str, Any]) -> Any:
    response = await got(resource.with_raw_response.create(**body, stream=True))
    parsed = await got(response.parse())
    seen = type(response), type(parsed), public(parsed), await read(parsed)
    return seen, response.http_response.is_closed, public(response.http_response)


async def streaming_response(resource: Any, body: dict[str, Any]) -> Any:
    async with entered(resource.with_streaming_response.create(**body)) as response:
        seen = type(response), public(response), response.is_closed, await got(response.read())
        seen = *seen, await got(response.parse())
    return seen, response.is_closed, pickles(response.http_response)


async def streamed_lines(resource: Any, body: dict[str, Any]) -> Any:
    async with entered(resource.with_streaming_response.create(**body, stream=True)) as response:
        seen = type(response), response.is_closed, await read(response.iter_lines())
    return seen, response.is_closed


async def helper(resource: Any, body: dict[str, Any]) -> Any:
    async with entered(resource.stream(**body)) as events:
        return type(events), public(events), await read(events)


WHOLE = {"plain": plain, "raw": raw, "streaming response": streaming_response}
STREAMED = {
    "stream": stream,
    "stream left": stream_left,
    "raw stream": raw_stream,
    "streamed lines": streamed_lines,
}
CALLS = [
    (target, way)
    for target in BODIES
    for way in (*WHOLE, *(() if "embeddings" in target else STREAMED), "helper", "parse", "post")
    if not (way in ("helper", "parse") and target in ("openai completions", "openai embeddings"))
]


def way_of(target: str, name: str) -> Way:
    if name == "parse":
        return parse(target)
    if name == "post":
        return post(target)
    return {**WHOLE, **STREAMED, "helper": helper}[name]


def parse(target: str) -> Way:
    async def way(resource: Any, body: dict[str, Any]) -> Any:
        schema = {SCHEMAS.get(target, "output_format"): Mails}
        return await got(resource.parse(**body, **schema))

    return way


def post(target: str) -> Way:
    """The door for endpoints without a method of their own, with a plain dict for an answer."""
    path = "/v1/messages" if target.startswith("anthropic") else "/" + target.split()[1]
    path = path.replace(".", "/")

    async def way(resource: Any, body: dict[str, Any]) -> Any:
        return await got(resource._client.post(path, body=body, cast_to=dict[str, object]))

    return way


# What is compared.


def seen(value: Any) -> Any:
    """A value as plain data: its types, what was set in it, whether it can be pickled."""
    if isinstance(value, BaseModel):
        fields = {name: seen(field) for name, field in vars(value).items()}
        return type(value).__qualname__, fields, sorted(value.model_fields_set), pickles(value)
    if isinstance(value, list | tuple):
        return [seen(item) for item in value]
    if isinstance(value, dict):
        return {name: seen(item) for name, item in value.items()}
    return value


def public(value: Any) -> tuple[list[str], list[str]]:
    """The names that a value offers: all it has, and what is its own rather than its class's."""
    own = [name for name in vars(value) if not name.startswith("_")]
    return [name for name in dir(value) if not name.startswith("_")], sorted(own)


def pickles(value: Any) -> str:
    try:
        again = pickle.loads(pickle.dumps(value))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is to be the same
        return type(error).__name__
    return f"{type(again).__qualname__}, {sorted(vars(again))}"


def failure(error: BaseException) -> Any:
    """An exception as its caller sees it; addresses of requests differ by port."""
    reported = {
        n: v for n, v in vars(error).items() if n.lstrip("_") not in ("request", "response")
    }
    causes = type(error.__cause__), type(error.__context__), error.__suppress_context__
    return type(error), str(error), seen(reported), public(error), causes


def client_of(target: str, url: str, *, asynchronous: bool, **options: Any) -> Any:
    library, name = target.partition(" ")[0], "Async" if asynchronous else ""
    given = {"api_key": "x", "max_retries": 0, **options}
    if library == "openai":
        return getattr(openai, f"{name}OpenAI")(base_url=f"{url}/v1", **given)
    return getattr(anthropic, f"{name}Anthropic")(base_url=url, **given)


def resource_of(target: str, client: Any) -> Any:
    for name in target.split()[1].split("."):
        client = getattr(client, name)
    return client


def missing(target: str, way: str) -> str | None:
    library, path = target.split()
    name = {"helper": "stream", "parse": "parse"}.get(way)
    resource = resource_of(target, client_of(target, "http://127.0.0.1:9", asynchronous=False))
    if name is None or hasattr(resource, name):
        return None
    return f"this version of {library} has no {path}.{name}"


def outcome(
    target: str,
    way: Way,
    *changes: Change,
    asynchronous: bool,
    host: str | None = None,
    but_for_usage: bool = False,
    **options: Any,
) -> tuple[Any, list[Any]]:
    """What a caller sees of one call, and what a new provider sees of it.

    The provider stands in for a `host`, as a proxy.
    """
    with FakeProvider() as provider:
        provider.script(*changes)
        if host is not None:
            http = http_of(target)
            make = http.AsyncClient if asynchronous else http.Client
            options["http_client"] = make(proxy=provider.url)

        async def call() -> Any:
            url = host or provider.url
            client = client_of(target, url, asynchronous=asynchronous, **options)
            try:
                return seen(await way(resource_of(target, client), copy.deepcopy(BODIES[target])))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is to be the same
                return failure(error)
            finally:
                await got(client.close())

        result = asyncio.run(call())
        return result, [request(sent, but_for_usage=but_for_usage) for sent in provider.requests]


def request(sent: Any, *, but_for_usage: bool) -> Any:
    """A request to the byte, but for the port of the provider: no header of ours is added.

    `but_for_usage`: and but for the usage that is asked for on the caller's behalf.
    """
    left_out = {"host"}
    body = sent.raw
    if but_for_usage:
        left_out.add("content-length")
        parsed = json.loads(body)
        if parsed.get("stream_options") == {"include_usage": True}:
            del parsed["stream_options"]
        body = json.dumps(parsed)
    headers = {name: value for name, value in sent.headers.items() if name not in left_out}
    return sent.method, sent.path, headers, body


both_kinds = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@both_kinds
@pytest.mark.parametrize(("target", "name"), CALLS)
def test_a_call_looks_the_same_to_its_caller_and_to_the_provider(
    target: str, name: str, asynchronous: bool, instrumented: Any
):
    if (reason := missing(target, name)) is not None:
        pytest.skip(reason)
    way = way_of(target, name)
    bare = outcome(target, way, asynchronous=asynchronous)

    spans = instrumented()
    observed = outcome(target, way, asynchronous=asynchronous)

    assert observed == bare
    assert len(observed[1]) == len(spans()) == 1


CHANGES: dict[tuple[str, str], Change] = {
    ("plain", "refused"): fails(400, "invalid_request_error"),
    ("plain", "too many"): fails(429),
    ("plain", "no JSON"): is_no_json,
    ("plain", "without usage"): without_usage,
    ("raw", "failed"): fails(500),
    ("stream", "overloaded"): fails(529, "overloaded_error"),
    ("stream", "cut"): cut(2),
    ("stream", "ended"): ended(2),
    ("stream", "broken"): broken(2),
    ("streamed lines", "cut"): cut(2),
}


@both_kinds
@pytest.mark.parametrize(
    ("target", "name", "change"),
    [(target, *case) for target in BODIES for case in CHANGES if (target, case[0]) in CALLS],
)
def test_what_goes_wrong_goes_wrong_the_same_way(
    target: str, name: str, change: str, asynchronous: bool, instrumented: Any
):
    way, what = way_of(target, name), CHANGES[name, change]
    bare = outcome(target, way, what, asynchronous=asynchronous)

    spans = instrumented()
    observed = outcome(target, way, what, asynchronous=asynchronous)

    assert observed == bare
    assert len(spans()) == 1


HOST = "http://api.openai.com"
"""Known to report the usage of a stream when asked, so it is asked on the caller's behalf."""
ASKED = [
    (target, way)
    for target in ("openai chat.completions", "openai completions")
    for way in ("stream", "stream left", "helper")
    if (target, way) in CALLS
]


@both_kinds
@pytest.mark.parametrize("change", [None, cut(2), ended(2), broken(2)])
@pytest.mark.parametrize(("target", "name"), ASKED)
def test_usage_that_is_asked_for_on_the_callers_behalf_stays_hidden_from_the_caller(
    target: str, name: str, change: Change | None, asynchronous: bool, instrumented: Any
):
    if (reason := missing(target, name)) is not None:
        pytest.skip(reason)
    way, changes = way_of(target, name), [] if change is None else [change]
    how: dict[str, Any] = {"asynchronous": asynchronous, "host": HOST, "but_for_usage": True}
    bare = outcome(target, way, *changes, **how)

    spans = instrumented()
    observed = outcome(target, way, *changes, **how)

    assert observed == bare
    (span,) = spans()
    if change is None and name != "stream left":
        assert "agentpulse.usage.estimated" not in span["attributes"]
        assert span["attributes"]["gen_ai.usage.output_tokens"] > 0


@both_kinds
@pytest.mark.parametrize("name", ["plain", "raw", "raw stream", "streamed lines", "post"])
@pytest.mark.parametrize("target", ["openai chat.completions", "openai completions"])
def test_raw_answers_are_the_providers_own_to_the_byte(
    target: str, name: str, asynchronous: bool, instrumented: Any
):
    way = way_of(target, name)
    bare = outcome(target, way, asynchronous=asynchronous, host=HOST)

    instrumented()

    assert outcome(target, way, asynchronous=asynchronous, host=HOST) == bare


@both_kinds
@pytest.mark.parametrize("asked", [{"include_usage": True}, {"include_usage": False}])
def test_a_caller_who_decided_about_the_usage_is_obeyed(
    asked: Any, asynchronous: bool, instrumented: Any
):
    async def way(resource: Any, body: dict[str, Any]) -> Any:
        return await stream(resource, {**body, "stream_options": asked})

    target = "openai chat.completions"
    bare = outcome(target, way, asynchronous=asynchronous, host=HOST)

    instrumented()

    assert outcome(target, way, asynchronous=asynchronous, host=HOST) == bare


@both_kinds
def test_the_client_repeats_a_request_as_often_as_without_us(asynchronous: bool, instrumented: Any):
    def fails_for_a_moment(reply: Reply) -> Reply:
        return replace(fails(500)(reply), headers={"retry-after-ms": "1"})

    target, changes = "openai chat.completions", [fails_for_a_moment] * 2
    bare = outcome(target, plain, *changes, asynchronous=asynchronous, max_retries=2)

    spans = instrumented()
    observed = outcome(target, plain, *changes, asynchronous=asynchronous, max_retries=2)

    assert observed == bare
    assert (len(observed[1]), len(spans())) == (3, 1)


def test_a_call_that_lacks_an_argument_fails_as_without_us(instrumented: Any):
    async def call(resource: Any, _body: dict[str, Any]) -> Any:
        return await got(resource.create(temperature=1))

    bare = outcome("openai chat.completions", call, asynchronous=False)
    spans = instrumented()

    assert outcome("openai chat.completions", call, asynchronous=False) == bare
    assert bare[0][0] is TypeError
    assert spans() == []


class Gate(threading.Semaphore):
    """Counts the events that the provider sent although nobody had let it."""

    waited_in_vain = 0

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        got = super().acquire(blocking, timeout)
        self.waited_in_vain += not got
        return got


@both_kinds
@pytest.mark.parametrize("target", [name for name in BODIES if "embeddings" not in name])
def test_nothing_of_a_stream_is_read_before_its_caller_asks(
    target: str, asynchronous: bool, instrumented: Any
):
    gate = Gate(0)

    async def one_by_one(resource: Any, body: dict[str, Any]) -> list[Any]:
        opened = await got(resource.create(**body, stream=True))
        gate.release()
        first = await following(opened)
        gate.release(200)
        return [first, *await read(opened)]

    bare = outcome(target, stream, asynchronous=asynchronous)
    instrumented()
    observed = outcome(target, one_by_one, held_by(gate), asynchronous=asynchronous)

    assert observed[0] == bare[0][1]
    assert gate.waited_in_vain == 0


@both_kinds
@pytest.mark.parametrize("target", BODIES)
def test_arguments_stay_as_they_are(target: str, asynchronous: bool, instrumented: Any):
    given = {
        "extra_body": {"user": "u1"},
        "extra_headers": {"x-mine": "1"},
        "extra_query": {"q": "1"},
    }
    if "chat" in target:
        given["stream_options"] = {}
    if "embeddings" not in target:
        given["stream"] = True
    given = {**copy.deepcopy(BODIES[target]), **given}
    before = copy.deepcopy(given)

    async def call(resource: Any, _body: dict[str, Any]) -> Any:
        result = await got(resource.create(**given))
        return await read(result) if given.get("stream") else result

    spans = instrumented()
    outcome(target, call, asynchronous=asynchronous)

    assert given == before
    assert len(spans()) == 1


@pytest.mark.parametrize("library", [openai, anthropic])
@pytest.mark.parametrize("owner", ["SyncAPIClient", "AsyncAPIClient"])
def test_the_patched_method_describes_itself_as_the_original(
    library: Any, owner: str, instrumented: Any
):
    def described() -> Any:
        method = getattr(library._base_client, owner).request
        names = method.__name__, method.__qualname__, method.__module__, method.__doc__
        return inspect.iscoroutinefunction(method), inspect.signature(method), names

    bare = described()
    instrumented()

    assert described() == bare
    assert bare[0] is (owner == "AsyncAPIClient")


def http_of(target: str) -> Any:
    """The HTTP library that this version of the client stands on."""
    client = client_of(target, "http://127.0.0.1:9", asynchronous=False)
    roots = [kind.__module__.partition(".")[0] for kind in type(client._client).__mro__]
    return sys.modules[next(root for root in roots if root.startswith("httpx"))]


class MineError(Exception):
    pass


class MineToo(BaseException):
    pass


def raised_by_the_http_library(target: str, name: str) -> BaseException:
    return getattr(http_of(target), name)("as the test wants")


ERRORS: dict[str, Callable[[str], BaseException]] = {
    "Exception": lambda _target: MineError("x", 1),
    "BaseException": lambda _target: MineToo("x", 1),
    "KeyboardInterrupt": lambda _target: KeyboardInterrupt(),
    "SystemExit": lambda _target: SystemExit(3),
    "CancelledError": lambda _target: asyncio.CancelledError("x"),
    "ConnectError": lambda target: raised_by_the_http_library(target, "ConnectError"),
    "ReadTimeout": lambda target: raised_by_the_http_library(target, "ReadTimeout"),
}


def transport(http: Any, error: BaseException, *, after_first_event: bool) -> tuple[Any, Any]:
    """Transports, sync and async, that raise: at once, or in the middle of a stream."""
    event = b'event: message_stop\ndata: {"type": "message_stop", "choices": []}\n\n'

    class Body(http.SyncByteStream, http.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield event
            raise error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield event
            raise error

    def answer(sent: Any) -> Any:
        if not after_first_event:
            raise error
        headers = {"content-type": "text/event-stream"}
        return http.Response(200, headers=headers, stream=Body(), request=sent)

    class Raising(http.BaseTransport):
        def handle_request(self, sent: Any) -> Any:
            return answer(sent)

    class AsyncRaising(http.AsyncBaseTransport):
        async def handle_async_request(self, sent: Any) -> Any:
            return answer(sent)

    return http.Client(transport=Raising()), http.AsyncClient(transport=AsyncRaising())


def raised(target: str, kind: str, *, asynchronous: bool, after_first_event: bool) -> Any:
    """What reaches the caller: the very same object or not, and what it is."""
    error = ERRORS[kind](target)
    clients = transport(http_of(target), error, after_first_event=after_first_event)

    async def call() -> Any:
        client = client_of(
            target,
            "http://127.0.0.1:9",
            asynchronous=asynchronous,
            http_client=clients[asynchronous],
        )
        try:
            await read(await got(resource_of(target, client).create(**BODIES[target], stream=True)))
        except BaseException as caught:  # noqa: BLE001  # whatever it is, it is to be the same
            causes = caught.__cause__ is error, caught.__context__ is error
            return caught is error, type(caught), str(caught), causes
        finally:
            await got(client.close())

    return asyncio.run(call())


@both_kinds
@pytest.mark.parametrize("after_first_event", [False, True], ids=["at once", "in the stream"])
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("target", ["openai chat.completions", "anthropic messages"])
def test_an_exception_reaches_the_caller_as_the_same_object_where_it_does_without_us(
    target: str, kind: str, after_first_event: bool, asynchronous: bool, instrumented: Any
):
    how = {"asynchronous": asynchronous, "after_first_event": after_first_event}
    bare = raised(target, kind, **how)

    spans = instrumented()
    observed = raised(target, kind, **how)

    assert observed == bare
    assert observed is not None
    if kind in ("BaseException", "KeyboardInterrupt", "SystemExit", "CancelledError"):
        assert observed[0]
    (span,) = spans()
    assert span["status"] == "ERROR"


def test_a_client_made_before_is_as_open_to_us_as_one_made_after(
    provider: FakeProvider, spans: Any, instrumented: Any
):
    with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
        instrumented()
        client.embeddings.create(**BODIES["openai embeddings"])
        assert len(spans()) == 1

        uninstrument()
        client.embeddings.create(**BODIES["openai embeddings"])
        assert spans() == []


@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_the_body_of_a_raw_stream_is_read_also_where_nobody_holds_its_response(
    library: str, clients: Any, instrumented: Any
):
    def calls(client: Any) -> Any:
        resource = client.chat.completions if library == "openai" else client.messages
        given = {
            "model": "claude-haiku-4-5",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        return resource.with_raw_response.create(**given, stream=True)

    bodies: list[bytes] = []

    async def achained(client: Any) -> None:
        chunks = [chunk async for chunk in (await calls(client)).http_response.aiter_bytes()]
        bodies.append(b"".join(chunks))

    spans = instrumented()
    client, aclient = getattr(clients, library), getattr(clients, f"a{library}")
    bodies.append(b"".join(calls(client).http_response.iter_bytes()))
    clients.run(achained(aclient))
    assert all(body.startswith((b"data: ", b"event: ")) for body in bodies)
    assert len(bodies) == len(spans()) == 2
