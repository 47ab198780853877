"""`agentpulse status`: would calls be recorded here, and would the server accept them?"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from agentpulse_exporter.transport import NoAnswerError
from agentpulse_instrumentation import INSTRUMENTORS
from packaging.requirements import Requirement

from agentpulse.activation import obstacle
from agentpulse.announcement import installed_versions
from agentpulse.cli.answers import Outcome, in_words, is_page
from agentpulse.cli.sending import send_nothing
from agentpulse.settings import ROWS, Settings, resolve
from agentpulse.version import VERSION


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing; `is_well` is None where it could not be told."""

    is_well: bool | None
    said: str


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the tree."""
    parser = subparsers.add_parser(
        "status",
        description="Shows the settings and where each comes from, whether the endpoint answers "
        "and takes the key, and which libraries are recorded. Exit status 0 if all is well, else 1.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Looks, prints, and says by its result whether all is well."""
    settings = resolve({})
    reason = obstacle(settings)
    outcome = None if settings.problems else send_nothing(settings)
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
    if isinstance(outcome, NoAnswerError) or is_page(outcome):
        return Finding(False, in_words(outcome))
    # To a request without events, 400 is the answer of an API that is there and takes the key.
    if outcome.status in (200, 400, 401, 403, 429):
        return Finding(True, "answers")
    return Finding(False, in_words(outcome))


def _key(settings: Settings, outcome: Outcome | None) -> Finding:
    if not _endpoint(outcome).is_well or isinstance(outcome, NoAnswerError) or outcome is None:
        return Finding(None, "not checked")
    if outcome.status in (401, 403):
        return Finding(False, in_words(outcome) if settings.api_key else "none")
    if outcome.status == 429:
        return Finding(None, in_words(outcome))
    return Finding(True, "accepted" if settings.api_key else "none, and none is needed here")


def _library(name: str, settings: Settings, *, is_on: bool) -> Finding:
    requirement = Requirement(INSTRUMENTORS[name].supported)
    installed = installed_versions([requirement.name]).get(requirement.name)
    supported = f"supported: {requirement.specifier}"
    if installed is None:
        return Finding(None, f"not installed ({supported})")
    if not requirement.specifier.contains(installed, prereleases=True):
        return Finding(False, f"{installed} is not recorded ({supported})")
    if not is_on or not settings.auto_patch:
        return Finding(None, f"{installed}, not recorded because {'auto_patch is false' if is_on else 'AgentPulse is off'}")
    return Finding(True, f"{installed}, recorded ({supported})")


def _print_text(settings: Settings, findings: dict[str, Finding], *, is_well: bool) -> None:
    width = max(map(len, ROWS))
    print(f"AgentPulse {VERSION}\n")
    for name, row in ROWS.items():
        source = settings.sources[name]
        print(f"  {name:{width}}  {settings.shown(name)}  ({source})")
    print()
    marks = {True: "ok", False: "!!", None: "--"}
    for name, finding in findings.items():
        print(f"  {marks[finding.is_well]} {name:{width - 3}}  {finding.said}")
    print("\n" + ("All is well." if is_well else "Something needs your attention, see !!."))


def _print_json(settings: Settings, findings: dict[str, Finding], *, is_well: bool) -> None:
    report = {
        "version": VERSION,
        "ok": is_well,
        "settings": {
            name: {"value": settings.shown(name), "source": settings.sources[name]} for name in ROWS
        },
        "findings": {
            name: {"ok": finding.is_well, "said": finding.said} for name, finding in findings.items()
        },
    }
    print(json.dumps(report, indent=2))
