"""Watching one HTTP response object: methods are replaced on the object, and taken off it again.

The replacements hold the response weakly: a cycle would leave the connection of a dropped response
to the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable
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


def release(response: Any | None) -> None:
    """Makes the response what it was: pickling it must not meet attributes of ours."""
    if response is None:
        return
    for name in _REPLACED:
        response.__dict__.pop(name, None)
