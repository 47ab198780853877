"""`agentpulse status`: would calls be recorded here, and would the server accept them?"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any, NamedTuple

from agentpulse_exporter._delivery.http import Answer
from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument
from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.patching import Library
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits

from agentpulse import __version__
from agentpulse._otel.distro import is_disabled, listed
from agentpulse._otel.provider import describe
from agentpulse._output import encodable, log_to_stderr
from agentpulse.cli._requests import Outcome, has_local_key, in_words, is_page, request
from agentpulse.client import get_client
from agentpulse.settings import DECLARED, ROWS, Settings, obstacle, resolve

_MARKS = {True: "ok", False: "!!", None: "--"}
_LIMITS = (
    # The least is a call with all that it may have, in a session without metadata.
    ("max_span_attributes", 48, "COUNT", "calls with more attributes are lost"),
    # The least is the length of names of models and keys of sessions.
    ("max_span_attribute_length", 64, "VALUE_LENGTH", "names of models and keys are cut"),
)
"""Limits of spans: the least that a call needs, the variable that sets it, and the harm of less."""


class Finding(NamedTuple):
    """One thing that was checked."""

    ok: bool | None
    """None where that is unknown, or doesn't matter."""
    detail: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Shows the settings, whether the endpoint answers and takes the key, which libraries are "
        "recorded (it imports them), which variables of OpenTelemetry prevent that, and the tracer "
        "provider of this process. Exit status 0 if all is well, else 1."
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Checks all, and prints it; 1 if something needs attention."""
    settings = resolve({})
    if settings.debug:
        log_to_stderr()
    reason = obstacle(settings)
    # With a problem in the environment the endpoint may be another one than was meant.
    # The path takes the key, as sending does, and nothing is stored.
    outcome = None if settings.problems else request(settings, "/v1/stats")
    findings = {
        "agentpulse": Finding(False, reason.text) if reason else Finding(True, "on"),
        "endpoint": _endpoint(outcome),
        "key": _key(settings, outcome),
        **{
            library.name: _library(name, library, settings, is_on=reason is None)
            for name, kind in INSTRUMENTORS.items()
            for library in kind.libraries()
        },
        **{name: Finding(False, why) for name, why in _variables(settings, is_on=reason is None)},
    }
    # With `agentpulse run agentpulse status`, this process is instrumented itself.
    client = get_client()
    joined = (client and client.joined) or describe(trace.get_tracer_provider())
    report = {
        "version": __version__,
        "ok": all(finding.ok is not False for finding in findings.values()),
        "settings": {
            name: {"value": settings.shown(name), "source": settings.sources[name]} for name in ROWS
        },
        "findings": {name: finding._asdict() for name, finding in findings.items()},
        "joined": asdict(joined),
    }
    print(json.dumps(report, indent=2) if arguments.json else encodable("\n".join(_lines(report))))
    return 0 if report["ok"] else 1


def _endpoint(outcome: Outcome | None) -> Finding:
    if outcome is None:
        return Finding(None, "not asked")
    # Only an AgentPulse API has these, whatever it makes of the key.
    is_ours = isinstance(outcome, Answer) and outcome.status in (200, 401, 403, 429)
    if is_ours and not is_page(outcome):
        return Finding(True, "answers")
    return Finding(False, in_words(outcome))


def _key(settings: Settings, outcome: Outcome | None) -> Finding:
    if not isinstance(outcome, Answer) or not _endpoint(outcome).ok:
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


def _library(instrumentor: str, library: Library, settings: Settings, *, is_on: bool) -> Finding:
    """Whether the calls of a library would be recorded: it is imported and patched to see."""
    installed, specifier = library.installed(), library.specifier
    if installed is None:
        return Finding(None, f"not installed ({specifier} is supported)")
    if not library.supports(installed):
        return Finding(False, f"{installed} is not recorded: {specifier} is supported")
    variable = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    reasons = {
        "because AgentPulse is off": not is_on,
        "because auto_patch is false": not settings.auto_patch,
        f"under opentelemetry-instrument because of {variable}": is_disabled(instrumentor),
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        return Finding(None, f"{installed} is supported, not recorded {reason}")
    problem = _patch(INSTRUMENTORS[instrumentor](), library)
    return Finding(problem is None, problem or f"{installed} is recorded")


def _patch(instrumentor: LibraryInstrumentor, library: Library) -> str | None:
    """Patches a library as `init` does, and takes it back; the problem, or None."""
    instrument([instrumentor.library])
    try:
        for module in library.modules:
            if library.name not in instrumentor.not_recorded:
                import_module(module)
        return instrumentor.not_recorded.get(library.name)
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
        reason = f"{type(error).__name__}: {error}"
        return f"{library.installed()} is broken, importing it fails: {reason}"
    finally:
        uninstrument()


def _variables(settings: Settings, *, is_on: bool) -> Iterator[tuple[str, str]]:
    """The variables under which calls are not recorded, or not sent, each with the reason."""
    exporters = listed("OTEL_TRACES_EXPORTER")
    if exporters and "agentpulse" not in exporters:
        unsent = "nothing is sent to AgentPulse under opentelemetry-instrument"
        yield (
            "traces_exporter",
            f"{unsent}, because OTEL_TRACES_EXPORTER is {','.join(exporters)!r}",
        )
    if not os.environ.get(DECLARED):  # else a file has the sampler and the limits
        sampler = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
        if sampler in ("always_off", "parentbased_always_off"):
            reason = f"because OTEL_TRACES_SAMPLER is {sampler!r}"
            yield "traces_sampler", f"none of the calls are recorded, {reason}"
        for attribute, least, name, harm in _LIMITS:
            limit: int | None = getattr(SpanLimits(), attribute)
            if limit is not None and limit < least:
                reason = f"because OTEL_[SPAN_]ATTRIBUTE_{name}_LIMIT is {limit}"
                yield "attribute_limits", f"{harm}, {reason}; {least} are needed"
                break  # the first of them loses most
    if is_on and settings.otlp_endpoint is not None:
        try:
            import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        except ImportError:
            install = 'its exporter is not installed: pip install "agentpulse-sdk[otlp]"'
            yield "otlp_endpoint", f"nothing is sent by OTLP, because {install}"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, ROWS))
    yield f"AgentPulse {report['version']}\n"
    for name, setting in report["settings"].items():
        yield f"  {name:{width}}  {setting['value']}  ({setting['source']})"
    yield ""
    for name, finding in report["findings"].items():
        yield f"  {_MARKS[finding['ok']]} {name:{width - 3}}  {finding['detail']}"
    joined = report["joined"]
    yield f"\n  Tracer provider of this process: {joined['provider']}"
    yield from (f"    {line}" for line in joined["processors"])
    if joined["sampling"] is not None:
        yield f"    sampler: {joined['sampling']}"
    yield "\n" + ("All is well." if report["ok"] else "Something needs your attention, see !!.")
