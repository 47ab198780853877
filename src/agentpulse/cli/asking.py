"""Asks the endpoint for JSON of any length, where `Transport` reads the beginning alone."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

from agentpulse_exporter.local_key import Keys
from agentpulse_exporter.proxies import Proxy, proxy_for
from agentpulse_exporter.settings import Endpoint, Settings
from agentpulse_exporter.transport import TLS, UNREACHABLE, Answer, NoAnswerError

from agentpulse.version import VERSION

OURS = {"User-Agent": f"agentpulse-python/{VERSION}"}
"""What every request of a command says: who we are."""
SECONDS = 10.0
"""Seconds that each step of a request may take."""
_LONGEST_REFUSAL = 64 * 1024
_OK = 200


class RefusedError(Exception):
    """The endpoint answered otherwise than with JSON and status 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"answered {answer.status}")
        self.answer = answer


def ask(exporter: Settings, path: str) -> object:
    """The JSON at a path below the endpoint; redirects, which would take the key along, refuse.

    Raises:
        RefusedError: There is an answer, but another one.
        NoAnswerError: There is none.
        agentpulse_exporter.settings.ConfigurationError: The proxy of the environment has no
            address.
    """
    endpoint, proxy = exporter.endpoint, proxy_for(exporter.endpoint)
    target, more = f"{endpoint.path}{path}", {**OURS, "Host": endpoint.authority}
    if proxy is not None and endpoint.scheme == "http":
        target = f"http://{endpoint.authority}{target}"
        more |= _authorization(proxy)

    def get(authorization: Mapping[str, str]) -> Answer:
        connection = _connection(endpoint, proxy)
        try:
            connection.request("GET", target, headers={**more, **authorization})
            return _read(connection.getresponse())
        except (OSError, HTTPException) as error:
            # Without its cause: http.client puts the value of a header it refuses into the message.
            reason = TLS if isinstance(error, ssl.SSLError) else UNREACHABLE
            raise NoAnswerError(reason, error) from None
        finally:
            connection.close()

    return _json(Keys(endpoint, exporter.api_key).send(get))


def _read(response: HTTPResponse) -> Answer:
    longest = None if response.status == _OK else _LONGEST_REFUSAL
    body = response.read(longest)
    return Answer(response.status, response.headers.get_content_type(), body=body)


def _json(answer: Answer) -> object:
    if answer.status == _OK and answer.content_type != "text/html":
        try:
            return json.loads(answer.body)
        except ValueError:  # no JSON
            raise RefusedError(Answer(_OK, answer.content_type)) from None
    raise RefusedError(answer)


def _connection(endpoint: Endpoint, proxy: Proxy | None) -> HTTPConnection:
    target = proxy or endpoint
    if endpoint.scheme == "http":
        return HTTPConnection(target.host, target.port, timeout=SECONDS)
    connection = HTTPSConnection(target.host, target.port, timeout=SECONDS)
    if proxy is not None:
        connection.set_tunnel(endpoint.host, endpoint.port, _authorization(proxy))
    return connection


def _authorization(proxy: Proxy) -> dict[str, str]:
    return {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
