"""Asks the endpoint for JSON of any length, where `Transport` reads the beginning alone."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

from agentpulse_exporter._delivery.answers import gzipped, is_refusal
from agentpulse_exporter._delivery.http import (
    TLS,
    UNREACHABLE,
    Answer,
    NoAnswerError,
    Proxy,
    Transport,
    proxy_for,
)
from agentpulse_exporter._delivery.local_key import Keys
from agentpulse_exporter._wire.batches import Batch
from agentpulse_exporter._wire.event import Event
from agentpulse_exporter.settings import ConfigurationError, Endpoint
from agentpulse_exporter.settings import Settings as ExporterSettings
from agentpulse_exporter.settings import resolve as resolve_exporter

from agentpulse import __version__
from agentpulse.settings import Settings

OURS = {"User-Agent": f"agentpulse-python/{__version__}"}
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


def ask(exporter: ExporterSettings, path: str) -> object:
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


# What the endpoint's answers mean, in plain words: what happened, and what to do about it.

Outcome = Answer | NoAnswerError | ConfigurationError
"""How a request ended: with an answer, without one, or before it was made."""

_ANSWERS = {
    400: "it finds the request malformed (400): update agentpulse-sdk",
    401: "it takes no such API key (401): check AGENTPULSE_API_KEY",
    403: "it doesn't know this API key (403): it may be revoked, create one in your account",
    404: "there is no AgentPulse API at this address (404): check AGENTPULSE_ENDPOINT",
    413: "it finds the request too large (413): check what is between here and AgentPulse",
    429: "the limit of events of your plan is reached (429): events are taken again later",
}
_CAUSES = {
    "ConnectionRefusedError": "the connection is refused: check AGENTPULSE_ENDPOINT, or the proxy",
    "TimeoutError": "it doesn't answer in time: check AGENTPULSE_ENDPOINT and the network",
    "gaierror": "nobody knows its host name: check AGENTPULSE_ENDPOINT and the network",
    "BadStatusLine": "what listens there doesn't speak HTTP: check AGENTPULSE_ENDPOINT",
}
_LONGEST_QUOTE = 200
_KEY = re.compile(r"ap_[!-~]+")


def in_words(outcome: Outcome) -> str:
    """What went wrong, for an outcome that isn't success; reads on from the endpoint's name."""
    if isinstance(outcome, ConfigurationError):
        return str(outcome).rstrip(".")
    if isinstance(outcome, NoAnswerError):
        return _no_answer_in_words(outcome)
    status = outcome.status
    if status in _ANSWERS:
        return _ANSWERS[status]
    if 300 <= status < 400:  # the class of redirects
        return f"it redirects elsewhere ({status}), which is never followed: check the address"
    if status >= 500:  # the class of the server's failures
        return f"it failed ({status}): try again later"
    if is_page(outcome):
        return f"it answers with a web page ({status}), not as an AgentPulse API: check the address"
    return f"it answered {status}, which no AgentPulse API does: check AGENTPULSE_ENDPOINT"


def is_page(answer: Answer) -> bool:
    """Whether somebody else answered: a captive portal, or whatever is at a wrong address."""
    return answer.content_type == "text/html"


def quoted(answer: Answer) -> str:
    """The server's own words, as far as they fit on a terminal, and without an echoed key."""
    words = _KEY.sub("…", " ".join(answer.body.decode(errors="replace").split()))
    shown = "".join(letter for letter in words if letter.isprintable())
    return f"{shown[:_LONGEST_QUOTE]}…" if len(shown) > _LONGEST_QUOTE else shown


def _no_answer_in_words(error: NoAnswerError) -> str:
    if error.reason == TLS:
        return "its certificate can't be verified: check AGENTPULSE_ENDPOINT and SSL_CERT_FILE"
    said = str(error)
    known = next((words for cause, words in _CAUSES.items() if cause in said), None)
    return known or f"there is no answer, {said}: check AGENTPULSE_ENDPOINT and the network"


# Requests that the commands make to the endpoint, the way the exporter makes its own.


def get(settings: Settings, path: str) -> Outcome:
    """Asks for a path below the endpoint, with the key."""
    exporter = exporter_settings(settings)
    try:
        with closing(_transport(exporter)) as transport:
            return _keys(exporter).send(
                lambda headers: transport.get(path, {**OURS, **headers}, seconds=SECONDS)
            )
    except (NoAnswerError, ConfigurationError) as error:
        return error


def post(settings: Settings, event: Event) -> tuple[Outcome, bool]:
    """Sends one event as the exporter sends its first: compressed, and if that is refused, plain.

    Returns:
        What the server answered last, and whether that was to the compressed one.
    """
    exporter = exporter_settings(settings)
    plain = Batch((event,)).body(exporter.agent_name, __version__)
    ours = {**OURS, "Content-Type": "application/json"}
    outcome = _posted(exporter, gzipped(plain), {**ours, "Content-Encoding": "gzip"})
    if not _may_be_due_to_compression(outcome):
        return outcome, True
    return _posted(exporter, plain, ours), False


def _posted(exporter: ExporterSettings, body: bytes, ours: Mapping[str, str]) -> Outcome:
    try:
        with closing(_transport(exporter)) as transport:
            return _keys(exporter).send(
                lambda headers: transport.post(body, {**ours, **headers}, seconds=SECONDS)
            )
    except (NoAnswerError, ConfigurationError) as error:
        return error


def _may_be_due_to_compression(outcome: Outcome) -> bool:
    if isinstance(outcome, Answer):
        return is_refusal(outcome.status)
    return isinstance(outcome, NoAnswerError) and outcome.hung_up


def has_local_key(settings: Settings) -> bool:
    """Whether there is a local server of this user at the endpoint, by the key that it left."""
    try:
        return _keys(exporter_settings(settings)).local is not None
    except ConfigurationError:
        return False


def exporter_settings(settings: Settings) -> ExporterSettings:
    """What of the settings a request needs.

    Raises:
        ConfigurationError: The endpoint or the key can't be used.
    """
    return resolve_exporter(
        api_key=settings.api_key,
        endpoint=settings.endpoint,
        agent_name=settings.agent_name,
        allow_insecure=settings.allow_insecure,
    )


def _transport(exporter: ExporterSettings) -> Transport:
    return Transport(exporter.endpoint, proxy_for(exporter.endpoint))


def _keys(exporter: ExporterSettings) -> Keys:
    return Keys(exporter.endpoint, exporter.api_key)
