"""Reads the body of a request as JSON, within bounds of size and time."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from typing import cast

from starlette.requests import ClientDisconnect, Request

from agentpulse.server.refusal import Refusal

MAX_BODY = 256 * 1024
"""Bytes of a body, as received and also as decoded: what is taken here is taken by the hosted API,
whether or not something in front of it decodes gzip."""
MAX_DEPTH = 32
"""Objects and lists inside each other."""
SECONDS = 10.0
"""A sender's time to send a body."""


async def read_json(request: Request) -> object:
    """The body.

    Raises:
        Refusal: 408, 413, 415, or 400 for what is no JSON.
    """
    # A form on a page of another origin can post other types without asking first.
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "Expected Content-Type: application/json.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity"):
        raise Refusal(415, f"Content-Encoding is {encoding!r}; expected gzip or none.")
    body = await _received(request)
    return parsed(_unzipped(body) if encoding == "gzip" else body)


def parsed(body: bytes) -> object:
    """The JSON in a body.

    Raises:
        Refusal: 400 for what isn't JSON, or is nested too deeply.
    """
    try:
        value: object = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite
        )
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not JSON in UTF-8.") from None
    if _is_deeper(value, MAX_DEPTH):
        raise Refusal(400, f"The JSON is nested more than {MAX_DEPTH} deep.")
    return value


async def _received(request: Request) -> bytes:
    received = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                received += chunk
                if len(received) > MAX_BODY:
                    raise Refusal(413, f"The body is larger than {MAX_BODY} bytes.")
    except (TimeoutError, ClientDisconnect):
        raise Refusal(408, f"The body did not arrive within {SECONDS:g} seconds.") from None
    return bytes(received)


def _unzipped(body: bytes) -> bytes:
    unzipping = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with the header of gzip
    try:
        # No more than this is ever inflated, so that a small body can't fill the memory.
        inflated = unzipping.decompress(body, MAX_BODY + 1)
    except zlib.error:
        raise Refusal(400, "The body is not gzip, but Content-Encoding says so.") from None
    if len(inflated) > MAX_BODY:
        raise Refusal(413, f"The decoded body is larger than {MAX_BODY} bytes.")
    if not unzipping.eof or unzipping.unused_data:
        raise Refusal(400, "The gzip body is cut off, or something follows it.")
    return inflated


def _no_constant(name: str) -> object:
    message = f"{name} is no JSON"
    raise ValueError(message)


def _finite(text: str) -> float | None:
    # 1e999 is JSON, but no number that can be stored or told again.
    value = float(text)
    return value if math.isfinite(value) else None


def _is_deeper(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        items = cast("list[object]", value)
    else:
        return False
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in items)
