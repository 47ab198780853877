"""Requests that the commands make to the endpoint, the way the exporter makes its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from agentpulse_exporter.batching import Batch
from agentpulse_exporter.compression import gzipped, is_refusal
from agentpulse_exporter.events import Event
from agentpulse_exporter.local_key import Keys
from agentpulse_exporter.proxies import proxy_for
from agentpulse_exporter.settings import ConfigurationError
from agentpulse_exporter.settings import Settings as ExporterSettings
from agentpulse_exporter.settings import resolve as resolve_exporter
from agentpulse_exporter.transport import Answer, NoAnswerError, Transport

from agentpulse.cli.answers import Outcome
from agentpulse.cli.asking import OURS
from agentpulse.settings import Settings
from agentpulse.version import VERSION

SECONDS = 10.0
"""Seconds that a request may take."""


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
    plain = Batch((event,)).body(exporter.agent_name, VERSION)
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
