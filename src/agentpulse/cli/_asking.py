"""Requests of the commands to the endpoint, as the exporter makes its own, and answers in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import closing

from agentpulse_exporter._delivery.answers import gzipped, is_refusal
from agentpulse_exporter._delivery.endpoint import proxy_for
from agentpulse_exporter._delivery.http import TLS, Answer, NoAnswerError, Transport
from agentpulse_exporter._delivery.local_key import Keys
from agentpulse_exporter._wire.event import Batch, Event

from agentpulse import __version__
from agentpulse.settings import Settings

_OURS = {"User-Agent": f"agentpulse-python/{__version__}"}
_SECONDS = 10.0
"""Seconds that a request may take, its answer included."""
_OK = 200

Outcome = Answer | NoAnswerError
"""How a request ended."""

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
    """The problem, of an outcome that isn't success, to follow the endpoint's name."""
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
    """Whether another server answered: a captive portal, or the one at a wrong address."""
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


class RefusedError(Exception):
    """The endpoint answered otherwise than with JSON and status 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"answered {answer.status}")
        self.answer = answer


def ask(settings: Settings, path: str) -> object:
    """The JSON at a path below the endpoint, of any length; redirects are refusals.

    Raises:
        RefusedError: There is an answer, but another one.
        NoAnswerError: There is none.
    """
    answer = _send(
        settings,
        lambda transport, headers: transport.get(path, headers, seconds=_SECONDS, is_whole=True),
    )
    if answer.status == _OK and not is_page(answer):
        try:
            return json.loads(answer.body)
        except ValueError:  # no JSON
            raise RefusedError(Answer(_OK, answer.content_type)) from None
    raise RefusedError(answer)


def get(settings: Settings, path: str) -> Outcome:
    """Asks for a path below the endpoint, with the key."""
    try:
        return _send(
            settings, lambda transport, headers: transport.get(path, headers, seconds=_SECONDS)
        )
    except NoAnswerError as error:
        return error


def post(settings: Settings, event: Event) -> tuple[Outcome, bool]:
    """Sends one event as the exporter sends its first: compressed, and if that is refused, plain.

    Returns:
        The last answer, and whether that was to the compressed one.
    """
    plain = Batch((event,)).body(settings.agent_name, __version__)
    outcome = _posted(settings, gzipped(plain), {"Content-Encoding": "gzip"})
    if is_refusal(outcome.status) if isinstance(outcome, Answer) else outcome.hung_up:
        return _posted(settings, plain, {}), False
    return outcome, True


def _posted(settings: Settings, body: bytes, encoding: Mapping[str, str]) -> Outcome:
    more = {"Content-Type": "application/json", **encoding}
    try:
        return _send(
            settings,
            lambda transport, headers: transport.post(body, {**more, **headers}, seconds=_SECONDS),
        )
    except NoAnswerError as error:
        return error


def _send(settings: Settings, request: Callable[[Transport, Mapping[str, str]], Answer]) -> Answer:
    """The answer to a request, made with each key that there is until one is accepted."""
    with closing(Transport(settings.address, proxy_for(settings.address))) as transport:
        keys = Keys(settings.address, settings.api_key)
        return keys.send(lambda headers: request(transport, {**_OURS, **headers}))


def has_local_key(settings: Settings) -> bool:
    """Whether there is a local server of this user at the endpoint, by the key that it left."""
    return Keys(settings.address, settings.api_key).local is not None
