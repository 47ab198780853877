"""Who may see and add what was recorded: who has the server's key, and browsers that they opened.

Other users of the machine reach the port too, so the address alone gives nothing away. Programs
send the key. A browser gets a cookie by an address that works once, so that it is of no use in a
history or in a list of processes. Address and cookie are made of the key, so whoever has the key
can make an address for a server in another process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import Request

from agentpulse.server.refusal import Refusal

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
