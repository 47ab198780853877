"""Watching one HTTP response object: methods are replaced on the object, and taken off it again.

The replacements hold the response weakly: a cycle would leave the connection of a dropped response
to the garbage collector.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast
from weakref import ref

_REPLACED = ("close", "aclose", "iter_bytes", "aiter_bytes")


def watch_close(response: Any, closed: Callable[[], None]) -> None:
    """Calls `closed` after the response was closed, by the caller or by the client at its end."""
    weak = ref(response)
    kind = cast("Any", type(response))

    def close() -> None:
        target = weak()
        try:
            if target is not None:
                kind.close(target)
        finally:
            closed()

    async def aclose() -> None:
        target = weak()
        try:
            if target is not None:
                await kind.aclose(target)
        finally:
            closed()

    response.close, response.aclose = close, aclose


def watch_bytes(response: Any, take: Callable[[bytes], None]) -> None:
    """Calls `take`, which raises nothing, with the bytes of the body as they are read."""
    weak = ref(response)
    kind = cast("Any", type(response))

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        for chunk in kind.iter_bytes(weak(), chunk_size):
            take(chunk)
            yield chunk

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in kind.aiter_bytes(weak(), chunk_size):
            take(chunk)
            yield chunk

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that JSON stands for; None where it stands for none, or is no JSON."""
    start = text.lstrip()[:1]
    if start != (b"{" if isinstance(start, bytes) else "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def release(response: Any | None) -> None:
    """Makes the response what it was: pickling it must not meet attributes of ours."""
    if response is None:
        return
    for name in _REPLACED:
        response.__dict__.pop(name, None)
