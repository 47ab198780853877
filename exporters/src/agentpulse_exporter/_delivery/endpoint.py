"""The endpoint of events: its address, the proxy in front of it, and the keys of its requests.

A local server (`agentpulse dev`) makes a key each time it starts. While it runs, the key is in a
file that is named by the server's port, and that only its user can read. Programs outlive many runs
of the server, so the file is read for each request.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Self, TypeVar
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}
_SHORTEST_SHOWN = 16
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go: `{scheme}://{host}:{port}{path}`, the path without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, address: str) -> Self:
        """The endpoint at an http or https address with a host.

        Raises:
            ValueError: The address is not http(s) with a host, or contains a user, a query, a
                fragment or characters beyond ASCII.
        """
        parts = urlsplit(address)
        port = parts.port if parts.port is not None else _PORTS.get(parts.scheme)
        is_plain = all("!" <= letter <= "~" and letter not in "?#" for letter in address)
        if not port or not parts.hostname or "@" in parts.netloc or not is_plain:
            raise ValueError
        if parts.scheme not in _PORTS:
            raise ValueError
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def authority(self) -> str:
        """Host and port as in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, spoken to in the clear; an https endpoint is tunnelled through it."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """The header with the user and password for the proxy, if it has any."""


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """The proxy by `https_proxy` or `http_proxy`, and `no_proxy`; None for a direct connection.

    Call it once, early: reading the proxies of the environment is not safe after a fork.

    Raises:
        ValueError: The variable doesn't hold the address of a proxy.
    """
    # A proxy would see the traffic of this machine with itself, and the key in it.
    if endpoint.is_loopback or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Slow to import, and rarely needed.
    from urllib.request import getproxies_environment, proxy_bypass

    address = getproxies_environment().get(endpoint.scheme)
    if not address or proxy_bypass(endpoint.authority):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        parts, host, port = urlsplit(""), None, 80
    if not host or parts.scheme != "http":
        # SOCKS, or TLS to the proxy, would need a client that speaks it.
        message = f"{endpoint.scheme}_proxy is no address of a proxy; expected http://host:port."
        raise ValueError(message) from None
    if parts.username is None:
        return Proxy(host, port)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    encoded = base64.b64encode(credentials.encode()).decode()
    return Proxy(host, port, {"Proxy-Authorization": f"Basic {encoded}"})


class ApiKey:
    """A key that shows no more than its end, however it is printed, and that can't be pickled."""

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        """`text` is the key; blanks around it are removed."""
        exact = text.strip()
        # In a closure: crash reporters and serializers walk attributes, and find a function there.
        self._reveal = lambda: exact

    @classmethod
    def of(cls, given: str | _T) -> ApiKey | _T:
        """Returns a text as a key, and anything else unchanged."""
        return cls(given) if isinstance(given, str) else given

    @property
    def is_valid(self) -> bool:
        """Whether it can be a key: printable ASCII that starts with `ap_`.

        Anything else could end the header that the key travels in, and start another.
        """
        return re.fullmatch("ap_[!-~]{1,1000}", self._reveal()) is not None

    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._reveal()}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self._reveal() == other._reveal()

    def __hash__(self) -> int:
        return hash(self._reveal())

    def __repr__(self) -> str:
        text = self._reveal()
        # Four of few characters would show too much of a short key.
        return f"ap_…{text[-4:]}" if len(text) >= _SHORTEST_SHOWN else "ap_…"

    def __deepcopy__(self, _memo: object) -> Self:
        # `dataclasses.asdict` makes one.
        return self

    def __reduce__(self) -> NoReturn:
        message = "An API key is not pickled: it would be readable outside the process."
        raise TypeError(message)


def data_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """AgentPulse's own folder in the user's folder for data, by the rules of the platform.

    Raises:
        RuntimeError: The user has no home.
    """
    usual = {"win32": "AppData/Local", "darwin": "Library/Application Support"}
    chosen = environ.get("LOCALAPPDATA" if platform == "win32" else "XDG_DATA_HOME", "")
    # By the XDG specification, a variable that isn't an absolute path is to be ignored.
    is_usable = Path(chosen).is_absolute()
    of_all = Path(chosen) if is_usable else Path.home() / usual.get(platform, ".local/share")
    return of_all / "agentpulse"


def key_file(port: int) -> Path:
    """The file with the key of the local server on this port.

    Raises:
        RuntimeError: The user has no home.
    """
    return data_folder() / f"local-{port}.key"


def read_key(file: Path) -> str | None:
    """The key in a file; None if the file can't be read or holds no valid key."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if ApiKey(text).is_valid else None


KnownKeys = Callable[[], list[ApiKey | None]]
"""Returns the present keys in the order in which they are tried; without any, `[None]`."""


def known_keys(endpoint: Endpoint, given: ApiKey | None) -> KnownKeys:
    """The keys that a request to the endpoint may carry.

    At an endpoint on this machine, the key of the local server there comes first, so that a key for
    the hosted API isn't sent; then the key that was given.
    """
    file = None
    if endpoint.is_loopback:
        # Without a home there is no local server of this user.
        with suppress(RuntimeError):
            file = key_file(endpoint.port)

    def known() -> list[ApiKey | None]:
        local = None if file is None else ApiKey.of(read_key(file))
        return [key for key in (local, given) if key is not None] or [None]

    return known
