"""The ways to make one call: every operation goes through the same ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Resource = Any
Body = dict[str, Any]


@dataclass(frozen=True)
class Mode:
    """One way: how it is done with a sync and with an async client, and whether it streams."""

    name: str
    run: Callable[[Resource, Body], object]
    arun: Callable[[Resource, Body], Any]
    streams: bool = False


def plain(resource: Resource, body: Body) -> None:
    resource.create(**body)


async def aplain(resource: Resource, body: Body) -> None:
    await resource.create(**body)


def stream(resource: Resource, body: Body) -> None:
    list(resource.create(**body, stream=True))


async def astream(resource: Resource, body: Body) -> None:
    async for _ in await resource.create(**body, stream=True):
        pass


def helper(resource: Resource, body: Body) -> None:
    with resource.stream(**body) as events:
        list(events)


async def ahelper(resource: Resource, body: Body) -> None:
    async with resource.stream(**body) as events:
        async for _ in events:
            pass


def raw(resource: Resource, body: Body) -> None:
    resource.with_raw_response.create(**body).parse()


async def araw(resource: Resource, body: Body) -> None:
    parsed = (await resource.with_raw_response.create(**body)).parse()
    if asyncio.iscoroutine(parsed):
        await parsed


def raw_stream(resource: Resource, body: Body) -> None:
    list(resource.with_raw_response.create(**body, stream=True).parse())


async def araw_stream(resource: Resource, body: Body) -> None:
    response = await resource.with_raw_response.create(**body, stream=True)
    parsed = response.parse()
    async for _ in await parsed if asyncio.iscoroutine(parsed) else parsed:
        pass


def streaming_response(resource: Resource, body: Body) -> None:
    with resource.with_streaming_response.create(**body) as response:
        response.read()


async def astreaming_response(resource: Resource, body: Body) -> None:
    async with resource.with_streaming_response.create(**body) as response:
        await response.read()


def streamed_lines(resource: Resource, body: Body) -> None:
    with resource.with_streaming_response.create(**body, stream=True) as response:
        list(response.iter_lines())


async def astreamed_lines(resource: Resource, body: Body) -> None:
    async with resource.with_streaming_response.create(**body, stream=True) as response:
        async for _ in response.iter_lines():
            pass


PLAIN = Mode("plain", plain, aplain)
STREAM = Mode("stream", stream, astream, streams=True)
HELPER = Mode("stream() helper", helper, ahelper, streams=True)
RAW = Mode("raw", raw, araw)
RAW_STREAM = Mode("raw stream", raw_stream, araw_stream, streams=True)
STREAMING_RESPONSE = Mode("streaming response", streaming_response, astreaming_response)
STREAMED_LINES = Mode("streamed lines", streamed_lines, astreamed_lines, streams=True)

ELSEWHERE = {"langchain": "frameworks/test_models.py", "litellm": "litellm/test_modes.py"}
"""By library: the tests of what has no clients of this kind, in the ways that it has."""

WHOLE = (PLAIN, RAW, STREAMING_RESPONSE)
STREAMED = (STREAM, RAW_STREAM, STREAMED_LINES)
EVERY = (*WHOLE, *STREAMED, HELPER)


def has_helper(resource: Resource, mode: Mode) -> None:
    """Skips the test of a helper that the client's version doesn't have."""
    if mode is HELPER and not hasattr(resource, "stream"):
        pytest.skip("this version has no stream() helper here")
