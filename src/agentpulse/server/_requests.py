"""Who may see and add what was recorded: who has the server's key, and browsers that they opened.

Other users of the machine reach the port too, so the address alone gives nothing away. Programs
send the key. A browser gets a cookie by an address that works once, so that it is of no use in a
history or in a list of processes. Address and cookie are made of the key, so whoever has the key
can make an address for a server in another process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import secrets
import zlib
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# `Refusal`: why a request is not taken, as the status and the sentence that its sender gets.


class Refusal(Exception):  # noqa: N818  # it is an answer, and nothing has gone wrong here
    """Raised while a request is read; becomes `{"error": message}` with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


# Answers in JSON, the bad ones too.


def answer(content: object, *, status: int = 200) -> Response:
    """The content as JSON."""
    # In ASCII, because half a surrogate pair, which JSON can spell, has no UTF-8.
    text = json.dumps(content, allow_nan=False)
    return Response(text, status, media_type="application/json")


def failure(refusal: Refusal) -> Response:
    """What the sender of a refused request gets."""
    response = answer({"error": refusal.message}, status=refusal.status)
    if refusal.status == 401:  # HTTP asks for it
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def explain(_request: Request, error: Exception) -> Response:
    """The answer to what went wrong, for Starlette to call."""
    if isinstance(error, Refusal):
        return failure(error)
    status = getattr(error, "status_code", 500)
    messages = {
        404: "There is no such address here.",
        405: "This address takes another method.",
    }
    return answer({"error": messages.get(status, "The local server failed.")}, status=status)


# Reads the body of a request as JSON, within bounds of size and time.

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


# From where the local server may be talked to: programs on this machine, and its own page.
#
# Binding to 127.0.0.1 keeps other machines out, but not the web pages in this machine's browsers. A
# page of another origin can neither read (no CORS header is ever sent) nor write (its POSTs are
# refused by `Origin` and `Sec-Fetch-Site`), and a name that an attacker points at 127.0.0.1 is
# refused by `Host`.

HOSTS = ("127.0.0.1", "localhost", "[::1]")
_READING = frozenset({"GET", "HEAD"})
_OWN_SITES = frozenset({"same-origin", "none"})  # "none": the user's own doing, a bookmark say
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware that refuses what comes from elsewhere, before anything else is done with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request, by itself or by the application inside."""
        if scope["type"] != "http":
            return
        try:
            _verify_origin(scope)
        except Refusal as refusal:
            await _answer(failure(refusal), scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send))


def _verify_origin(scope: Scope) -> None:
    headers = Headers(scope=scope)
    port = scope["server"][1]
    own = {f"{host}:{port}" for host in HOSTS}
    host = headers.get("Host", "").lower()
    if (host if port != 80 else f"{host}:80") not in own:  # a URL leaves port 80 out
        raise Refusal(
            403, f"The local server is http://127.0.0.1:{port} and goes by no other name."
        )
    if scope["method"] in _READING:
        return
    origin = headers.get("Origin")
    site = headers.get("Sec-Fetch-Site", "none")
    if site not in _OWN_SITES or origin not in (None, f"http://{host}"):
        raise Refusal(403, "A page of another origin may not write here.")


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    await response(scope, receive, _with_headers(send))


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
        self._where = where
        # Browsers send a cookie to all ports of a host, and each server needs its own.
        self._cookie = f"agentpulse_{port}"
        self._used: set[str] = set()

    def verify(self, request: Request) -> None:
        """Whether a request may go on.

        Raises:
            Refusal: 401 for no key or none that could be one, 403 for another key.
        """
        authorization = request.headers.get("Authorization")
        if authorization is None:
            # A cookie shows what is there; what adds to it needs the key.
            if request.method in ("GET", "HEAD") and self.is_opened(request):
                return
            raise Refusal(401, f"This needs the key of this server: {self._how()}.")
        scheme, _, given = authorization.partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given.startswith("ap_"):
            raise Refusal(401, f"This is no API key of AgentPulse: {self._how()}.")
        if not hmac.compare_digest(given.encode(), self.key.encode()):
            raise Refusal(403, f"This API key is not known here: {self._how()}.")

    def is_opened(self, request: Request) -> bool:
        """Whether a browser was opened before."""
        # Starlette reads cookies one by one: a strange one of another server doesn't hide ours.
        given = request.cookies.get(self._cookie, "")
        return hmac.compare_digest(given.encode(), _proof(self.key, "cookie").encode())

    def open(self, code: str) -> str | None:
        """The header that gives a browser its cookie; None for a wrong code, or a used one."""
        nonce, proof = code[:_NONCE], code[_NONCE:]
        if not hmac.compare_digest(proof.encode(), _proof(self.key, OPENING + nonce).encode()):
            return None
        if nonce in self._used:
            return None
        self._used.add(nonce)
        cookie = f"{self._cookie}={_proof(self.key, 'cookie')}"
        return f"{cookie}; Path=/; Max-Age={_SECONDS_OF_COOKIE}; HttpOnly; SameSite=Strict"

    def _how(self) -> str:
        return f"send Authorization: Bearer KEY with the key {self._where}"


def _proof(key: str, purpose: str) -> str:
    return hmac.new(key.encode(), purpose.encode(), hashlib.sha256).hexdigest()[:32]
