"""The proxy between this machine and the endpoint, as the environment says."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from agentpulse_exporter.settings import ConfigurationError, Endpoint


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, spoken to in the clear; an https endpoint is tunnelled through it."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """The proxy to use, by `https_proxy` or `http_proxy`, and `no_proxy`; None for a direct way.

    The environment is read once: what it says of proxies is not safe to ask for after a fork.

    Raises:
        ConfigurationError: The variable holds no address of a proxy.
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
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if not host:
        message = f"{endpoint.scheme}_proxy is no address of a proxy; expected http://host:port."
        raise ConfigurationError(message)
    if parts.username is None:
        return Proxy(host, port or 80)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or 80, f"Basic {base64.b64encode(credentials.encode()).decode()}")
