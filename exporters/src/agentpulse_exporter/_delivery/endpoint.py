"""The address that events are sent to, and the proxy in front of it."""

from __future__ import annotations

import base64
import ipaddress
import os
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}


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
            ValueError: It is none, or has a user, a query, a fragment or characters beyond ASCII.
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
    """The user and password that it asks for."""


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """The proxy by `https_proxy` or `http_proxy`, and `no_proxy`; None for a direct connection.

    To be read once: the proxies of the environment are not safe to ask for after a fork.

    Raises:
        ValueError: The variable holds no address of a proxy.
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
