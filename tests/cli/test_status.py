"""`agentpulse status`: settings and their sources, endpoint, key, libraries, all in one word."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from agentpulse_instrumentation import INSTRUMENTORS
from agentpulse_instrumentation._engine.patching import Library
from fakes import processes
from fakes.sdk import KEY, Receiver, Run
from openai._base_client import SyncAPIClient

from agentpulse.cli import main
from agentpulse.server import LocalServer
from agentpulse.settings import ROWS

LOOKED_AT = {"agentpulse", "endpoint", "key", *INSTRUMENTORS, "langgraph"}


@pytest.fixture(autouse=True)
def settings(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", receiver.endpoint)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command, which is to end with this exit status, and returns what it reports."""

    def report(exit_status: int) -> dict[str, Any]:
        assert main(["status", "--json"]) == exit_status
        return json.loads(capsys.readouterr().out)

    return report


def test_where_all_is_well_it_prints_that_and_ends_with_0(
    receiver: Receiver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_API_KEY", KEY)

    assert main(["status"]) == 0

    text = capsys.readouterr().out
    lines = [line.split(maxsplit=2) for line in text.splitlines() if line]
    assert lines[0][1] == version("agentpulse-sdk")
    assert ["api_key", "ap_…cdef", "(AGENTPULSE_API_KEY)"] in lines
    assert ["endpoint", f"'{receiver.endpoint}'", "(AGENTPULSE_ENDPOINT)"] in lines
    assert ["flush_interval", "5.0", "(default)"] in lines
    assert ["ok", "key", "accepted"] in lines
    assert ["ok", "openai", f"{openai.__version__} is recorded"] in lines
    assert ["ok", "anthropic", f"{anthropic.__version__} is recorded"] in lines
    assert text.endswith("All is well.\n")
    assert KEY not in text


def test_asking_leaves_no_event_and_no_patch(receiver: Receiver):
    original = vars(SyncAPIClient)["request"]

    assert main(["status"]) == 0

    assert (receiver.requests, receiver.events) == (1, [])
    assert vars(SyncAPIClient)["request"] is original


def test_json_has_every_setting_and_every_finding(report: Any):
    printed = report(0)

    assert printed["ok"] is True
    assert set(printed["settings"]) == set(ROWS)
    assert set(printed["findings"]) == LOOKED_AT
    assert printed["findings"]["key"] == {"ok": True, "detail": "none, and none is needed here"}


@pytest.mark.parametrize(
    ("answer", "endpoint", "key"),
    [
        (401, (True, "answers"), (False, "it takes no such API key (401)")),
        (403, (True, "answers"), (False, "it doesn't know this API key (403)")),
        (404, (False, "there is no AgentPulse API at this address"), (None, "not checked")),
        (500, (False, "it failed (500)"), (None, "not checked")),
    ],
)
def test_an_endpoint_or_a_key_that_is_not_well_ends_with_1(
    answer: int,
    endpoint: tuple[bool, str],
    key: tuple[bool | None, str],
    receiver: Receiver,
    report: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("AGENTPULSE_API_KEY", KEY)
    receiver.status = answer

    findings = report(1)["findings"]

    for name, (is_well, detail) in (("endpoint", endpoint), ("key", key)):
        assert findings[name]["ok"] is is_well
        assert findings[name]["detail"].startswith(detail)


def test_a_limit_that_is_reached_leaves_the_key_unchecked(receiver: Receiver, report: Any):
    receiver.status = 429

    findings = report(0)["findings"]

    assert findings["endpoint"]["ok"] is True
    assert findings["key"] == {
        "ok": None,
        "detail": "the limit of events of your plan is reached (429): events are taken again later",
    }


def test_an_endpoint_that_wants_a_key_where_none_is_set(receiver: Receiver, report: Any):
    receiver.status = 401

    assert report(1)["findings"]["key"] == {"ok": False, "detail": "none, but one is needed"}


def test_an_endpoint_that_does_not_answer(
    speaks_no_http: str, report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", speaks_no_http)

    findings = report(1)["findings"]

    assert findings["endpoint"]["ok"] is False
    assert findings["endpoint"]["detail"].startswith("what listens there doesn't speak HTTP")
    assert findings["key"] == {"ok": None, "detail": "not checked"}


def test_a_malformed_setting_is_shown_and_nobody_is_asked(
    receiver: Receiver, report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_MAX_QUEUE_SIZE", "big")

    findings = report(1)["findings"]

    assert "AGENTPULSE_MAX_QUEUE_SIZE is 'big'" in findings["agentpulse"]["detail"]
    assert findings["endpoint"] == {"ok": None, "detail": "not asked"}
    assert receiver.requests == 0


@pytest.mark.parametrize(
    ("variable", "exit_status", "reason"),
    [
        ("AGENTPULSE_ENABLED", 1, "not recorded because AgentPulse is off"),
        ("AGENTPULSE_AUTO_PATCH", 0, "not recorded because auto_patch is false"),
    ],
)
def test_a_library_that_is_not_recorded_is_listed_with_the_reason(
    variable: str, exit_status: int, reason: str, report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, "false")

    finding = report(exit_status)["findings"]["openai"]

    assert finding == {"ok": None, "detail": f"{openai.__version__} is supported, {reason}"}


def test_a_library_that_is_absent_is_no_fault(report: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Library, "installed", lambda _self: None)

    finding = report(0)["findings"]["anthropic"]

    assert finding["ok"] is None
    assert finding["detail"].startswith("not installed (")


def test_a_version_that_is_not_supported_is_a_fault(report: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Library, "installed", lambda _self: "0.1")

    finding = report(1)["findings"]["openai"]

    assert finding["ok"] is False
    assert finding["detail"].startswith("0.1 is not recorded: ")


def test_a_library_that_is_broken_is_a_fault(
    receiver: Receiver, run_program: Run, monkeypatch: pytest.MonkeyPatch
):
    code = """
import sys
sys.modules["openai.types"] = None  # as a half-removed installation
from agentpulse.cli import main
sys.exit(main(["status"]))
"""

    program = run_program(code, AGENTPULSE_ENDPOINT=receiver.endpoint)

    assert program.returncode == 1, program.stderr
    assert "openai" in program.stdout
    assert "broken, importing it fails: " in program.stdout
    assert program.stdout.count("!!") == 2  # the line, and what points to it


SAMPLER = "OTEL_TRACES_SAMPLER"
RATIO = "OTEL_TRACES_SAMPLER_ARG"
COUNT, SPAN_COUNT = "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
LENGTH = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"
SPAN_LENGTH = "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"
COUNTS, LENGTHS = "OTEL_[SPAN_]ATTRIBUTE_COUNT_LIMIT", "OTEL_[SPAN_]ATTRIBUTE_VALUE_LENGTH_LIMIT"


@pytest.mark.parametrize("exporters", ["console", "otlp, console", "none"])
def test_exporters_without_ours_are_a_fault(
    exporters: str, report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_AUTO_PATCH", "false")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporters)

    assert report(1)["findings"]["traces_exporter"] == {
        "ok": False,
        "detail": "nothing is sent to AgentPulse under opentelemetry-instrument, because "
        f"OTEL_TRACES_EXPORTER is '{exporters.replace(' ', '')}'",
    }


@pytest.mark.parametrize("sampler", ["always_off", "parentbased_always_off"])
def test_a_sampler_that_records_nothing_is_a_fault(
    sampler: str, report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_AUTO_PATCH", "false")
    monkeypatch.setenv(SAMPLER, sampler)

    assert report(1)["findings"]["traces_sampler"] == {
        "ok": False,
        "detail": f"none of the calls are recorded, because OTEL_TRACES_SAMPLER is '{sampler}'",
    }


@pytest.mark.parametrize(
    ("variables", "harm", "reason"),
    [
        ({SPAN_COUNT: "8"}, "calls with more attributes are lost", f"{COUNTS} is 8"),
        ({COUNT: "47"}, "calls with more attributes are lost", f"{COUNTS} is 47"),
        ({COUNT: "999", SPAN_COUNT: "0"}, "calls with more attributes", f"{COUNTS} is 0"),
        ({LENGTH: "3"}, "names of models and keys are cut", f"{LENGTHS} is 3"),
        ({SPAN_LENGTH: "63"}, "names of models and keys", f"{LENGTHS} is 63"),
    ],
    ids=str,
)
def test_limits_that_are_too_small_for_a_call_are_a_fault(
    variables: dict[str, str], harm: str, reason: str, report: Any, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"AGENTPULSE_AUTO_PATCH": "false", **variables}.items():
        monkeypatch.setenv(name, value)

    finding = report(1)["findings"]["attribute_limits"]

    assert finding["ok"] is False
    assert finding["detail"].startswith(harm)
    assert f", because {reason}" in finding["detail"]


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "console,agentpulse"},
        {"OTEL_TRACES_EXPORTER": ""},
        {SAMPLER: "always_on"},
        {SAMPLER: "parentbased_always_on"},
        # A share of the calls is a choice, and no fault.
        *({SAMPLER: "traceidratio", RATIO: ratio} for ratio in ("1.0", "0.25", "half")),
        {SAMPLER: "of_a_vendor"},
        {SPAN_COUNT: "48", LENGTH: "64"},
        {COUNT: "8", SPAN_COUNT: "128"},
        # Nothing is no limit to OpenTelemetry.
        {SPAN_COUNT: "", SPAN_LENGTH: ""},
        # A file has the sampler and the limits then.
        {SAMPLER: "always_off", SPAN_COUNT: "8", "OTEL_CONFIG_FILE": "otel.yaml"},
    ],
    ids=str,
)
def test_variables_that_prevent_nothing_are_not_listed(
    variables: dict[str, str], report: Any, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"AGENTPULSE_AUTO_PATCH": "false", **variables}.items():
        monkeypatch.setenv(name, value)

    assert set(report(0)["findings"]) == {
        "agentpulse",
        "endpoint",
        "key",
        *INSTRUMENTORS,
        "langgraph",
    }


@pytest.mark.parametrize("disabled", ["agentpulse_openai", "requests, openai", "*"])
def test_a_library_that_a_variable_excludes_is_listed_with_the_variable(
    disabled: str, report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", disabled)

    findings = report(0)["findings"]

    left_alone = (
        "is supported, not recorded under opentelemetry-instrument because of "
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    )
    assert findings["openai"] == {"ok": None, "detail": f"{openai.__version__} {left_alone}"}
    assert findings["anthropic"]["ok"] is (None if disabled == "*" else True)


def test_another_backend_without_its_exporter_is_a_fault(
    report: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_AUTO_PATCH", "false")
    monkeypatch.setenv("AGENTPULSE_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    # As Python says of a module that is not there.
    absent = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, absent, None)

    finding = report(1)["findings"]["otlp_endpoint"]

    assert finding["ok"] is False
    assert 'pip install "agentpulse-sdk[otlp]"' in finding["detail"]


def test_debug_logs_on_stderr(run_program: Run, receiver: Receiver):
    code = """
import sys
from agentpulse import _output as logs
from agentpulse.cli import main
status = main(["status"])
logs.logger.debug("a detail")
sys.exit(status)
"""

    # Without libraries to try, which take seconds to import.
    variables = {"AGENTPULSE_ENDPOINT": receiver.endpoint, "AGENTPULSE_AUTO_PATCH": "false"}
    quiet = run_program(code, **variables)
    talking = run_program(code, **variables, AGENTPULSE_DEBUG="true")

    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert "DEBUG agentpulse: a detail" in talking.stderr


QUICK = {"AGENTPULSE_AUTO_PATCH": "false"}
"""Without libraries to try, which take seconds to import."""


def test_under_agentpulse_run_it_shows_the_provider_that_the_variables_make():
    with LocalServer() as server:
        environ = {
            **os.environ,
            **QUICK,
            "AGENTPULSE_ENDPOINT": server.url,
            "OTEL_TRACES_EXPORTER": "console,agentpulse",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.5",
        }
        agentpulse = str(Path(sys.executable).parent / "agentpulse")
        command = [agentpulse, "run", agentpulse, "status", "--json"]
        done = processes.run(command, env=environ)

    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["joined"] == {
        "provider": "opentelemetry.sdk.trace.TracerProvider",
        "processors": [
            "SessionProcessor (AgentPulse)",
            "BoundedBatchProcessor → CostEnrichingExporter → ConsoleSpanExporter",
            "AgentPulseSpanProcessor → AgentPulseSpanExporter (AgentPulse)",
        ],
        "sampling": "50 of 100 traces are recorded",
    }
    assert "traces_sampler" not in printed["findings"]
