"""From where the local server may be talked to: programs on this machine, and its own page.

Binding to 127.0.0.1 keeps other machines out, but not the web pages in this machine's browsers. A
page of another origin can neither read (no CORS header is ever sent) nor write (its POSTs are
refused by `Origin` and `Sec-Fetch-Site`), and a name that an attacker points at 127.0.0.1 is
refused by `Host`.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentpulse.server.answers import failure
from agentpulse.server.refusal import Refusal

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
