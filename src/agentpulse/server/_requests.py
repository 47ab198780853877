"""Requests: who may read and write here, the body of a request as JSON, and answers in JSON.

Other users of the machine reach the port too, so each request proves itself. Programs send the
server's key. A browser gets a cookie by an address that works once, so that it is of no use in a
history or in a list of processes. Address and cookie are made of the key, so a process that has
the key can make an address for a server in another process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import secrets
import zlib
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_MESSAGES = {404: "There is no such address here.", 405: "This address takes another method."}


class Refusal(HTTPException):  # it is an answer, and nothing has gone wrong here
    """Raised while a request is read; becomes `{"error": detail}` with this status."""


def answer(content: object, *, status: int = 200) -> Response:
    """The content as JSON."""
    # In ASCII, because half a surrogate pair, which JSON can spell, has no UTF-8.
    text = json.dumps(content, allow_nan=False)
    return Response(text, status, media_type="application/json")


def failure(_request: Request | None, error: Exception) -> Response:
    """The answer to a request that is refused, has no address here, or at which we failed."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = _MESSAGES.get(status, "The local server failed.")
    if isinstance(error, Refusal):
        message = error.detail
    response = answer({"error": message}, status=status)
    if status == 401:  # HTTP requires it
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


MAX_BODY = 256 * 1024
"""Bytes of a body, as received and also as decoded: a body that is accepted here is accepted by the
hosted API, whether or not a proxy in front of it decodes gzip."""
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
    if encoding == "gzip":
        body = _unzipped(body)
    try:
        # `int` fails for NaN and Infinity, which are no JSON.
        value: object = json.loads(body.decode("utf-8"), parse_constant=int, parse_float=_finite)
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


def _finite(text: str) -> float | None:
    # 1e999 is JSON, but no number that can be stored or written again.
    value = float(text)
    return value if math.isfinite(value) else None


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    items: Any = cast("Any", value.values() if isinstance(value, dict) else value)
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in items)


HOSTS = ("127.0.0.1", "localhost", "[::1]")
_READING = ("GET", "HEAD")


def guarded(app: ASGIApp) -> ASGIApp:
    """The application, with requests from other machines and sites refused before it sees them.

    Binding to 127.0.0.1 keeps other machines out, but not the web pages in this machine's browsers.
    A page of another origin can neither read (no CORS header is ever sent) nor write (its POSTs are
    refused by `Origin` and `Sec-Fetch-Site`), and a name that an attacker points at 127.0.0.1 is
    refused by `Host`.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _verify_origin(scope)
        except Refusal as refusal:
            await failure(None, refusal)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return guard


def _verify_origin(scope: Scope) -> None:
    headers = Headers(scope=scope)
    port = scope["server"][1]
    host = headers.get("Host", "").lower()
    if host not in {f"{name}:{port}" for name in HOSTS}:
        message = f"The local server is http://127.0.0.1:{port} and goes by no other name."
        raise Refusal(403, message)
    if scope["method"] in _READING:
        return
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site", "none")
    # "none" is the user's own doing, a bookmark say.
    if site not in ("same-origin", "none") or origin not in (None, f"http://{host}"):
        raise Refusal(403, "A page of another origin may not write here.")


OPENING = "/open/"
"""Where browsers are opened; a code follows."""

_NONCE = 16
_SECONDS_OF_COOKIE = 30 * 86_400


def new_key() -> str:
    """A key that nobody guesses."""
    return f"ap_local_{secrets.token_hex(16)}"


def opening_path(key: str) -> str:
    """The path, another one each time, that opens the page in one browser, once."""
    nonce = secrets.token_hex(_NONCE // 2)
    return f"{OPENING}{nonce}{_proof(key, OPENING + nonce)}"


class Access:
    """The access to one server while it runs."""

    def __init__(self, key: str, port: int, where: str) -> None:
        """`where` completes the sentence "the key …", for people."""
        self.key = key
        self._how = f"send Authorization: Bearer KEY with the key {where}"
        # Browsers send a cookie to all ports of a host, and each server needs its own.
        self._cookie = f"agentpulse_{port}"
        self._used: set[str] = set()

    def verify(self, request: Request) -> None:
        """Lets a request with the key pass, and one that reads in an opened browser.

        Raises:
            Refusal: 401 for no key or none that could be one, 403 for another key.
        """
        authorization = request.headers.get("Authorization")
        if authorization is None:
            # A cookie is enough to read; to write, the key is needed.
            if request.method in _READING and self.is_opened(request):
                return
            raise Refusal(401, f"This needs the key of this server: {self._how}.")
        scheme, _, given = authorization.partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given.startswith("ap_"):
            raise Refusal(401, f"This is no API key of AgentPulse: {self._how}.")
        if not hmac.compare_digest(given.encode(), self.key.encode()):
            raise Refusal(403, f"This API key is not known here: {self._how}.")

    def is_opened(self, request: Request) -> bool:
        """Whether a browser was opened before."""
        # Starlette reads cookies one by one: a strange one of another server doesn't hide ours.
        given = request.cookies.get(self._cookie, "")
        return hmac.compare_digest(given.encode(), _proof(self.key, "cookie").encode())

    def open(self, code: str) -> str | None:
        """The header that gives a browser its cookie; None for a wrong code, or a used one."""
        nonce, proof = code[:_NONCE], code[_NONCE:]
        is_ours = hmac.compare_digest(proof.encode(), _proof(self.key, OPENING + nonce).encode())
        if not is_ours or nonce in self._used:
            return None
        self._used.add(nonce)
        cookie = f"{self._cookie}={_proof(self.key, 'cookie')}"
        return f"{cookie}; Path=/; Max-Age={_SECONDS_OF_COOKIE}; HttpOnly; SameSite=Strict"


def _proof(key: str, purpose: str) -> str:
    return hmac.new(key.encode(), purpose.encode(), hashlib.sha256).hexdigest()[:32]
