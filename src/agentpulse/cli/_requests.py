"""Requests of the commands to the endpoint, as the exporter makes its own, and answers in words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import closing

from agentpulse_exporter._delivery.endpoint import known_keys, proxy_for
from agentpulse_exporter._delivery.http import INGEST, TLS, Answer, NoAnswerError, Transport
from agentpulse_exporter._delivery.upload import gzipped, is_refusal, refused_events
from agentpulse_exporter._wire.event import Batch, Event

from agentpulse import __version__
from agentpulse.settings import Settings

_SECONDS = 10.0
"""Seconds that a request may take, its answer included."""

_FINAL = frozenset({400, 401, 403, 404})
"""Statuses that a later request would get too."""

Outcome = Answer | NoAnswerError
"""How a request ended."""

_ANSWERS = {
    3: "it redirects elsewhere ({}), which is never followed: check the address",
    5: "it failed ({}): try again later",
    400: "it finds the request malformed (400): update agentpulse-sdk",
    401: "it takes no such API key (401): check AGENTPULSE_API_KEY",
    403: "it doesn't know this API key (403): it may be revoked, create one in your account",
    404: "there is no AgentPulse API at this address (404): check AGENTPULSE_ENDPOINT",
    413: "it finds the request too large (413): check what is between here and AgentPulse",
    429: "the limit of events of your plan is reached (429): events are taken again later",
}
"""By the status, or its class."""
_CAUSES = {
    f"{TLS} (": "its certificate can't be verified: check AGENTPULSE_ENDPOINT and SSL_CERT_FILE",
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
        known = (words for cause, words in _CAUSES.items() if cause in str(outcome))
        unknown = f"there is no answer, {outcome}: check AGENTPULSE_ENDPOINT and the network"
        return next(known, unknown)
    status = outcome.status
    if words := _ANSWERS.get(status) or _ANSWERS.get(status // 100):
        return words.format(status)
    if is_page(outcome):
        return f"it answers with a web page ({status}), not as an AgentPulse API: check the address"
    return f"it answered {status}, which no AgentPulse API does: check AGENTPULSE_ENDPOINT"


def is_page(outcome: Outcome) -> bool:
    """Whether another server answered: a captive portal, or the one at a wrong address."""
    return isinstance(outcome, Answer) and outcome.content_type == "text/html"


def _quoted(answer: Answer) -> str:
    """The server's own words, as far as they fit on a terminal, and without an echoed key."""
    words = _KEY.sub("…", " ".join(answer.body.decode(errors="replace").split()))
    shown = "".join(letter for letter in words if letter.isprintable())
    return f"{shown[:_LONGEST_QUOTE]}…" if len(shown) > _LONGEST_QUOTE else shown


class RequestError(Exception):
    """The endpoint doesn't answer as it should; the message is to follow its name."""

    def __init__(self, problem: str, outcome: Outcome | None = None) -> None:
        """The server's own words follow the problem, where there are some."""
        words = _quoted(outcome) if isinstance(outcome, Answer) and not is_page(outcome) else ""
        super().__init__(f"{problem}. Its answer: {words}" if words else f"{problem}.")
        self.is_final: bool = isinstance(outcome, Answer) and outcome.status in _FINAL
        """Whether a later request would end so too."""


def get_json(settings: Settings, path: str) -> object:
    """The JSON at a path below the endpoint, of any length; redirects are refusals.

    Raises:
        RequestError: There is another answer, or none.
    """
    answer = _success(request(settings, path))
    try:
        return json.loads(answer.body)
    except ValueError:
        problem = "its answer is no JSON: check AGENTPULSE_ENDPOINT"
        raise RequestError(problem, answer) from None


def post(settings: Settings, event: Event) -> bool:
    """Sends one event as the exporter sends its first: compressed, and if that is refused, plain.

    Returns:
        Whether the endpoint accepted it compressed.

    Raises:
        RequestError: It didn't accept it.
    """
    plain = Batch((event,)).body(settings.agent_name, __version__)
    kind = {"Content-Type": "application/json"}
    zipped = {**kind, "Content-Encoding": "gzip"}
    outcome = request(settings, INGEST, zipped, gzipped(plain))
    is_refused = is_refusal(outcome.status) if isinstance(outcome, Answer) else outcome.hung_up
    answer = _success(request(settings, INGEST, kind, plain) if is_refused else outcome)
    if refused_events(answer):
        problem = "it answered well, but refused it"
        raise RequestError(problem, answer)
    return not is_refused


def _success(outcome: Outcome) -> Answer:
    if isinstance(outcome, Answer) and 200 <= outcome.status < 300 and not is_page(outcome):
        return outcome
    raise RequestError(in_words(outcome), outcome)


def request(
    settings: Settings, path: str, headers: Mapping[str, str] = {}, body: bytes | None = None
) -> Outcome:
    """How a request below the endpoint ended: with each key that there is until one is accepted."""
    keys = known_keys(settings.address, settings.api_key)
    with closing(Transport(settings.address, proxy_for(settings.address), keys)) as transport:
        try:
            return transport.request(path, headers, body, seconds=_SECONDS)
        except NoAnswerError as error:
            return error


def has_local_key(settings: Settings) -> bool:
    """Whether there is a local server of this user at the endpoint, by the key that it left."""
    return known_keys(settings.address, None)() != [None]
