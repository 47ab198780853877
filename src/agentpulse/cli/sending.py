"""Requests that the commands make to the endpoint, the way the exporter makes its own."""

from __future__ import annotations

from contextlib import closing

from agentpulse_exporter.batching import Batch
from agentpulse_exporter.events import Event
from agentpulse_exporter.proxies import proxy_for
from agentpulse_exporter.settings import ConfigurationError
from agentpulse_exporter.settings import Settings as ExporterSettings
from agentpulse_exporter.settings import resolve as resolve_exporter
from agentpulse_exporter.transport import NoAnswerError, Transport

from agentpulse.cli.answers import Outcome
from agentpulse.settings import Settings
from agentpulse.version import VERSION

SECONDS = 10.0
"""Seconds that a request may take."""


def get(settings: Settings, path: str) -> Outcome:
    """Asks for a path below the endpoint, with the key."""
    exporter = exporter_settings(settings)
    try:
        with closing(_transport(exporter)) as transport:
            return transport.get(path, request_headers(exporter), seconds=SECONDS)
    except (NoAnswerError, ConfigurationError) as error:
        return error


def post(settings: Settings, event: Event) -> Outcome:
    """Sends one event, uncompressed, because some receivers can't read anything else."""
    exporter = exporter_settings(settings)
    body = Batch((event,)).body(exporter.agent_name, VERSION)
    headers = {**request_headers(exporter), "Content-Type": "application/json"}
    try:
        with closing(_transport(exporter)) as transport:
            return transport.post(body, headers, seconds=SECONDS)
    except (NoAnswerError, ConfigurationError) as error:
        return error


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


def request_headers(exporter: ExporterSettings) -> dict[str, str]:
    """What every request says: who we are, and the key where there is one."""
    headers = {"User-Agent": f"agentpulse-python/{VERSION}"}
    if exporter.api_key is not None:
        headers["Authorization"] = exporter.api_key.authorization()
    return headers
