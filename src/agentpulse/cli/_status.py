"""`agentpulse status`: would calls be recorded here, and would the server accept them?"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agentpulse_exporter._delivery.http import Answer
from opentelemetry import trace

from agentpulse import __version__, _tracing
from agentpulse._otel.environment import log_to_stderr, obstacle
from agentpulse._otel.provider import Joined, describe
from agentpulse.cli._asking import Outcome, get, has_local_key, in_words, is_page
from agentpulse.cli._findings import Finding, by_variables, libraries
from agentpulse.cli._last_start import LastStart, last_start
from agentpulse.cli._lines import as_shown
from agentpulse.runtime import get_client
from agentpulse.settings import ROWS, Settings, resolve

if TYPE_CHECKING:
    from agentpulse.cli import Subparsers

_CHECK = "/v1/stats"
"""It takes the key, as sending does, and only tells: asking leaves nothing behind."""
_STATUSES = frozenset({200, 401, 403, 429})
"""All of these say that an AgentPulse API is there, whatever it makes of the key."""
_MARKS = {True: "ok", False: "!!", None: "--"}


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said."""

    settings: Settings
    findings: Mapping[str, Finding]
    joined: Joined
    """What this process has."""
    last: LastStart | None

    @property
    def is_well(self) -> bool:
        """Whether nothing needs attention."""
        return all(finding.is_well is not False for finding in self.findings.values())


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command to the tree."""
    parser = subparsers.add_parser(
        "status",
        description="Shows the settings and where each comes from, whether the endpoint answers "
        "and takes the key, which libraries are recorded, for which it imports them, what "
        "OpenTelemetry's variables change, the tracer provider of this process, and the last "
        "program of this agent's name that started. "
        "Exit status 0 if all is well, else 1.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    settings = resolve({})
    if settings.debug:
        log_to_stderr()
    reason = obstacle(settings)
    # With a problem in the environment it isn't known whom to ask.
    outcome = None if settings.problems else get(settings, _CHECK)
    findings = {
        "agentpulse": Finding(False, reason.text) if reason else Finding(True, "on"),
        "endpoint": _endpoint(outcome),
        "key": _key(settings, outcome),
        **libraries(settings, is_on=reason is None),
        **by_variables(settings, is_on=reason is None),
    }
    report = Report(
        settings,
        findings,
        # With `agentpulse run agentpulse status`, what the variables make of a program.
        joined=_joined(),
        last=last_start(settings, _started()) if findings["key"].is_well else None,
    )
    (_print_json if arguments.json else _print_text)(report)
    return 0 if report.is_well else 1


def _started() -> float:
    """Since when this process is itself one that AgentPulse runs in, in seconds since 1970."""
    recorder = _tracing.active
    return time.time() - (recorder.vital_signs()["uptime_s"] if recorder is not None else 0.0)


def _joined() -> Joined:
    client = get_client()
    joined = None if client is None else client.joined
    return joined or describe(trace.get_tracer_provider())


def _endpoint(outcome: Outcome | None) -> Finding:
    if outcome is None:
        return Finding(None, "not asked")
    if isinstance(outcome, Answer) and outcome.status in _STATUSES and not is_page(outcome):
        return Finding(True, "answers")
    return Finding(False, in_words(outcome))


def _key(settings: Settings, outcome: Outcome | None) -> Finding:
    if not isinstance(outcome, Answer) or not _endpoint(outcome).is_well:
        return Finding(None, "not checked")
    local = has_local_key(settings)
    if outcome.status in (401, 403):
        known = settings.api_key or local
        return Finding(False, in_words(outcome) if known else "none, but one is needed")
    if outcome.status == 429:  # too many requests
        return Finding(None, in_words(outcome))
    if local:
        beside = ", which is tried before yours" if settings.api_key else ", found by itself"
        return Finding(True, f"accepted: that of the local server{beside}")
    return Finding(True, "accepted" if settings.api_key else "none, and none is needed here")


def _print_text(report: Report) -> None:
    print(as_shown("\n".join(_lines(report))))


def _lines(report: Report) -> Iterator[str]:
    settings, width = report.settings, max(map(len, ROWS))
    yield f"AgentPulse {__version__}\n"
    for name in ROWS:
        yield f"  {name:{width}}  {settings.shown(name)}  ({settings.sources[name]})"
    yield ""
    for name, finding in report.findings.items():
        yield f"  {_MARKS[finding.is_well]} {name:{width - 3}}  {finding.said}"
    yield f"\n  Tracer provider of this process: {report.joined.provider}"
    yield from (f"    {line}" for line in report.joined.processors)
    if report.joined.sampling is not None:
        yield f"    sampler: {report.joined.sampling}"
    if report.last is not None:
        first, *more = report.last.lines(time.time())
        yield f"\n  Last start of {settings.shown('agent_name')}: {first}"
        yield from (f"    {line}" for line in more)
    yield "\n" + ("All is well." if report.is_well else "Something needs your attention, see !!.")


def _print_json(report: Report) -> None:
    told = {
        "version": __version__,
        "ok": report.is_well,
        "settings": {
            name: {"value": report.settings.shown(name), "source": report.settings.sources[name]}
            for name in ROWS
        },
        "findings": {
            name: {"ok": found.is_well, "said": found.said}
            for name, found in report.findings.items()
        },
        "joined": asdict(report.joined),
        "last_start": None if report.last is None else asdict(report.last),
    }
    print(json.dumps(told, indent=2))
