"""`agentpulse status`: would calls be recorded here, and would the server accept them?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from agentpulse_exporter.transport import Answer
from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument
from packaging.requirements import Requirement

from agentpulse.activation import obstacle
from agentpulse.announcement import installed_version
from agentpulse.cli.answers import Outcome, in_words, is_page
from agentpulse.cli.sending import get
from agentpulse.logs import log_to_stderr
from agentpulse.settings import ROWS, Settings, resolve
from agentpulse.version import VERSION

if TYPE_CHECKING:
    from agentpulse.cli import Subparsers

_CHECK = "/v1/stats"
"""It takes the key, as sending does, and only tells: asking leaves nothing behind."""
_STATUSES = frozenset({200, 401, 403, 429})
"""All of these say that an AgentPulse API is there, whatever it makes of the key."""
_MARKS = {True: "ok", False: "!!", None: "--"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing."""

    is_well: bool | None
    """None where that can't be told, or doesn't matter."""
    said: str


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command to the tree."""
    parser = subparsers.add_parser(
        "status",
        description="Shows the settings and where each comes from, whether the endpoint answers "
        "and takes the key, and which libraries are recorded, for which it imports them. "
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
        **{name: _library(name, settings, is_on=reason is None) for name in INSTRUMENTORS},
    }
    is_well = all(finding.is_well is not False for finding in findings.values())
    (_print_json if arguments.json else _print_text)(settings, findings, is_well=is_well)
    return 0 if is_well else 1


def _endpoint(outcome: Outcome | None) -> Finding:
    if outcome is None:
        return Finding(None, "not asked")
    if isinstance(outcome, Answer) and outcome.status in _STATUSES and not is_page(outcome):
        return Finding(True, "answers")
    return Finding(False, in_words(outcome))


def _key(settings: Settings, outcome: Outcome | None) -> Finding:
    if not isinstance(outcome, Answer) or not _endpoint(outcome).is_well:
        return Finding(None, "not checked")
    if outcome.status in (401, 403):
        return Finding(False, in_words(outcome) if settings.api_key else "none, but one is needed")
    if outcome.status == 429:  # too many requests
        return Finding(None, in_words(outcome))
    return Finding(True, "accepted" if settings.api_key else "none, and none is needed here")


def _library(name: str, settings: Settings, *, is_on: bool) -> Finding:
    requirement = Requirement(INSTRUMENTORS[name].supported)
    installed = installed_version(requirement.name)
    if installed is None:
        return Finding(None, f"not installed ({requirement.specifier} is supported)")
    if not requirement.specifier.contains(installed, prereleases=True):
        return Finding(False, f"{installed} is not recorded: {requirement.specifier} is supported")
    if not is_on:
        return Finding(None, f"{installed} is supported, not recorded because AgentPulse is off")
    if not settings.auto_patch:
        return Finding(None, f"{installed} is supported, not recorded because auto_patch is false")
    problem = _patch(name)
    return Finding(problem is None, f"{installed} is {problem or 'recorded'}")


def _patch(name: str) -> str | None:
    """Patches a library as `init` does, and takes it back; what went wrong, or None."""
    instrumentor = INSTRUMENTORS[name]()
    instrument([name])
    try:
        import_module(instrumentor.defining)
        if instrumentor.is_patched:
            return None
        return "supported, but could not be patched: AGENTPULSE_DEBUG=true logs why"
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
        return f"broken, importing it fails: {type(error).__name__}: {error}"
    finally:
        uninstrument()


def _print_text(settings: Settings, findings: Mapping[str, Finding], *, is_well: bool) -> None:
    width = max(map(len, ROWS))
    print(f"AgentPulse {VERSION}\n")
    for name in ROWS:
        print(f"  {name:{width}}  {settings.shown(name)}  ({settings.sources[name]})")
    print()
    for name, finding in findings.items():
        print(f"  {_MARKS[finding.is_well]} {name:{width - 3}}  {finding.said}")
    print("\n" + ("All is well." if is_well else "Something needs your attention, see !!."))


def _print_json(settings: Settings, findings: Mapping[str, Finding], *, is_well: bool) -> None:
    report = {
        "version": VERSION,
        "ok": is_well,
        "settings": {
            name: {"value": settings.shown(name), "source": settings.sources[name]} for name in ROWS
        },
        "findings": {
            name: {"ok": found.is_well, "said": found.said} for name, found in findings.items()
        },
    }
    print(json.dumps(report, indent=2))
