"""docs/collector.yaml: whole, within what the Collector documents, and in our words.

It has been run in a Collector by hand, of the version that its head names. These tests run none:
they hold the file to the settings that its components document, on the pages that it names above
each of them.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._wire import privacy
from fakes.pages import ROOT

TEXT = (ROOT / "docs" / "collector.yaml").read_text(encoding="utf-8")
CONFIGURATION: dict[str, Any] = yaml.safe_load(TEXT)
KINDS = ("receivers", "processors", "exporters")
OF_ALL_EXPORTERS = {"sending_queue", "retry_on_failure", "timeout"}
DOCUMENTED = {
    "otlp": {"protocols"},
    "memory_limiter": {"check_interval", "limit_percentage", "spike_limit_percentage"},
    "attributes": {"actions", "include", "exclude"},
    "transform": {"error_mode", "trace_statements"},
    "tail_sampling": {"decision_wait", "num_traces", "decision_cache", "policies"},
    "load_balancing": {"routing_key", "protocol", "resolver", *OF_ALL_EXPORTERS},
    "clickhouse": {"endpoint", "username", "password", "database", "ttl", *OF_ALL_EXPORTERS},
    "otlp_grpc": {"endpoint", "tls", "headers", "compression", *OF_ALL_EXPORTERS},
}
"""The settings of each component, of those that we have a use for."""
POLICIES = {
    "string_attribute": {"key", "values", "enabled_regex_matching"},
    "status_code": {"status_codes"},
    "ottl_condition": {"error_mode", "span", "spanevent"},
    "probabilistic": {"sampling_percentage", "hash_salt"},
}
QUEUE = {"enabled", "num_consumers", "queue_size", "sizer", "block_on_overflow", "storage", "batch"}
BATCH = {"flush_timeout", "min_size", "max_size", "sizer"}


def component(name: str) -> str:
    """Its type: what is before the slash."""
    return name.partition("/")[0]


def settings(kind: str, name: str) -> dict[str, Any]:
    return CONFIGURATION[kind][name]


def used(kind: str) -> set[str]:
    pipelines = CONFIGURATION["service"]["pipelines"].values()
    return {name for pipeline in pipelines for name in pipeline[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_pipelines_name_is_what_is_configured(kind: str) -> None:
    assert used(kind) == set(CONFIGURATION[kind])


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in CONFIGURATION[kind]]
)
def test_only_documented_settings_are_used(kind: str, name: str) -> None:
    given = settings(kind, name)
    assert set(given) <= DOCUMENTED[component(name)]
    queue = given.get("sending_queue", {})
    assert set(queue) <= QUEUE
    assert set(queue.get("batch", {})) <= BATCH


@pytest.mark.parametrize("kind", KINDS)
def test_each_component_names_the_page_that_documents_it(kind: str) -> None:
    one = kind.removesuffix("s")
    for name in map(component, CONFIGURATION[kind]):
        # Folders have the names that components had before.
        folder = "otlp" if name == "otlp_grpc" else name.replace("_", "")
        page = rf"# https://github\.com/open-telemetry/\S+/{one}/{folder}{one}$"
        assert re.search(page, TEXT, re.MULTILINE)


@pytest.mark.parametrize(
    "policy",
    CONFIGURATION["processors"]["tail_sampling"]["policies"],
    ids=lambda policy: policy["name"],
)
def test_each_policy_has_the_settings_of_its_type(policy: dict[str, Any]) -> None:
    kind = policy["type"]
    assert set(policy) == {"name", "type", kind}
    assert set(policy[kind]) <= POLICIES[kind]


def test_sessions_are_kept_whole_and_expensive_calls_are_found_by_our_words() -> None:
    policies = {p["name"]: p for p in settings("processors", "tail_sampling")["policies"]}
    sessions = policies["sessions-and-cron-runs"]["string_attribute"]
    assert sessions["key"] == semconv.SESSION_ID
    assert re.search(sessions["values"][0], "daily-email:3f9a12cd")
    (condition,) = policies["expensive-calls"]["ottl_condition"]["span"]
    assert set(re.findall(r'attributes\["([^"]+)"\]', condition)) == {semconv.COST_TOTAL}
    assert policies["events-of-the-program"]["string_attribute"]["key"] == semconv.SPAN_KIND


def test_spans_are_balanced_by_trace_to_the_pipeline_that_samples() -> None:
    taken, decided = CONFIGURATION["service"]["pipelines"].values()
    (balancer,) = taken["exporters"]
    (receiver,) = decided["receivers"]
    resolver = settings("exporters", balancer)["resolver"]["dns"]
    endpoint = settings("receivers", receiver)["protocols"]["grpc"]["endpoint"]
    assert settings("exporters", balancer)["routing_key"] == "traceID"
    assert endpoint.rpartition(":")[2] == resolver["port"]
    assert "tail_sampling" not in taken["processors"]
    assert [each["processors"][0] for each in (taken, decided)] == ["memory_limiter"] * 2


def test_queues_behind_the_sampler_are_measured_in_spans() -> None:
    # A sampler hands on trace by trace, many at once, and doesn't wait where a queue is full.
    (decided,) = (
        pipeline
        for pipeline in CONFIGURATION["service"]["pipelines"].values()
        if "tail_sampling" in pipeline["processors"]
    )
    for exporter in decided["exporters"]:
        queue = settings("exporters", exporter)["sending_queue"]
        assert queue["sizer"] == "items"
        assert queue["queue_size"] >= 10 * queue["batch"]["min_size"]


def is_removed(attribute: str) -> bool:
    actions = settings("processors", "attributes/without_content")["actions"]
    assert {action["action"] for action in actions} == {"delete"}
    return any(re.search(action["pattern"], attribute) for action in actions)


def test_all_that_may_be_content_is_removed() -> None:
    may_be = [*privacy._NAMES, *privacy._PREFIXES, *(f"{p}more" for p in privacy._PREFIXES)]
    assert [name for name in may_be if not is_removed(name)] == []


def test_of_our_own_words_only_content_is_removed() -> None:
    words = {value for value in vars(semconv).values() if isinstance(value, str)}
    removed = {word for word in words if is_removed(word)}
    assert removed == {w for w in words if privacy.is_content(w)} | {
        semconv.ARGUMENTS,
        semconv.RESULT,
    }


STATEMENTS = settings("processors", "transform/without_content")["trace_statements"]


def removed_from(where: str) -> str:
    """The pattern of the attributes that are deleted there."""
    found = re.compile(rf'delete_matching_keys\({where}\.attributes, "(.+)"\)')
    (pattern,) = (match[1] for match in map(found.fullmatch, STATEMENTS) if match)
    return str(pattern).replace("\\\\", "\\")  # as OTTL has it in a text


def test_how_a_program_was_started_is_removed_from_its_resource() -> None:
    pattern = removed_from("resource")
    reported = ["process.command", "process.command_args", "process.command_line"]
    assert all(privacy.is_content(name) and re.search(pattern, name) for name in reported)
    stay = ["process.pid", "process.executable.name", "service.name", "host.name"]
    assert not any(re.search(pattern, name) for name in stay)


def test_texts_of_errors_are_removed_and_lines_of_a_sessions_log_stay() -> None:
    assert STATEMENTS[0] == 'set(span.status.message, "")'
    pattern = removed_from("spanevent")
    reported = ["exception.message", "exception.stacktrace", "gen_ai.input.messages", "content"]
    assert all(re.search(pattern, name) for name in reported)
    assert not re.search(pattern, semconv.SESSION_LOG_MESSAGE)
    assert not re.search(pattern, "exception.type")
