"""What the endpoint's answers mean, in plain words: what happened, and what to do about it."""

from __future__ import annotations

import re

from agentpulse_exporter.settings import ConfigurationError
from agentpulse_exporter.transport import TLS, Answer, NoAnswerError

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
