"""Each of the two parts works with what pip brings for it, and nothing more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentpulse_exporter import calculate_cost
from fakes.installed import PROGRAMS, run
from fakes.receiver import Receiver

from agentpulse import __version__
from agentpulse.demo.provider import FakeProvider

NO_OTHERS = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
ASKING = """
import sys, openai
with openai.OpenAI(api_key="x", base_url=sys.argv[1]) as client:
    said = [{"role": "user", "content": "What is new?"}]
    client.chat.completions.create(model="gpt-4o", messages=said)
"""

VERSIONS = """
from importlib.metadata import version
for name in ("agentpulse-sdk", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"):
    print(version(name))
"""


def brought(environment: str) -> set[str]:
    """The distributions that pip lists, but for OpenTelemetry's and those of any environment."""
    command = ("-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    listed = json.loads(run(environment, "python", *command))
    names = {each["name"].lower().replace("_", "-") for each in listed}
    others = {name for name in names if not name.startswith("opentelemetry-")}
    assert len(others) < len(names)
    return others - {"pip", "setuptools"}


def program(name: str) -> str:
    return str(PROGRAMS / f"{name}.py")


@pytest.mark.parametrize(
    ("environment", "distributions"),
    [
        ("exporter", {"agentpulse-exporter", "typing-extensions"}),
        (
            "instrumentation",
            {"agentpulse-instrumentation", "packaging", "typing-extensions", "wrapt"},
        ),
    ],
)
def test_pip_brings_little_besides_opentelemetrys_own(
    environment: str, distributions: set[str]
) -> None:
    assert brought(environment) == distributions


def test_the_sdk_can_be_installed_beside_others_at_their_newest() -> None:
    # A requirement of ours that pins OpenTelemetry's packages would have pip give up before.
    assert "No broken requirements" in run("sdk beside others", "python", "-m", "pip", "check")
    printed = run("sdk beside others", "python", "-c", VERSIONS)
    assert printed.split()[0] == __version__
    assert len(set(printed.split()[1:])) == 1


def test_the_exporter_records_a_span_that_was_made_by_hand_at_its_cost() -> None:
    with Receiver() as receiver:
        imported = run(
            *("exporter", "python", "-W", "error", program("exporter_alone")),
            AGENTPULSE_ENDPOINT=receiver.url,
        )
    assert imported.split() == ["agentpulse_exporter", "opentelemetry", "typing_extensions"]
    assert_the_call_is_recorded(receiver)


def test_the_stock_configurator_finds_the_exporter_by_its_name() -> None:
    with Receiver() as receiver:
        run(
            *("exporter beside the distro", "opentelemetry-instrument", "python", program("call")),
            OTEL_TRACES_EXPORTER="agentpulse",
            AGENTPULSE_ENDPOINT=receiver.url,
            **NO_OTHERS,
        )
    assert_the_call_is_recorded(receiver)


def assert_the_call_is_recorded(receiver: Receiver) -> None:
    (call,), (cost,) = receiver.of_kind("llm_call"), receiver.of_kind("cost")
    expected = calculate_cost("gpt-4o", 1000, 100, provider="openai", cache_read_tokens=400)
    assert call["data"]["cost_usd"] == cost["data"]["cost_usd"] == expected
    assert (call["data"]["name"], call["data"]["response_id"]) == ("chat gpt-4o", "chatcmpl-1")
    assert len(receiver.events) == 2


def test_the_instrumentation_does_nothing_where_there_is_nothing_to_do() -> None:
    imported = run("instrumentation", "python", "-W", "error", program("instrumentation_alone"))
    assert set(imported.split()) == {
        *("agentpulse_instrumentation", "opentelemetry", "packaging", "typing_extensions", "wrapt")
    }


def test_the_stock_distro_finds_the_instrumentors_by_their_names() -> None:
    with FakeProvider() as provider:
        printed = run(
            *("instrumentation beside the distro", "opentelemetry-instrument", "python"),
            *("-c", ASKING, provider.openai_url),
            OTEL_TRACES_EXPORTER="console",
            **NO_OTHERS,
        )
    span: dict[str, Any] = json.loads(printed)
    assert span["name"] == "chat gpt-4o"
    (charge,) = provider.bill
    assert span["attributes"]["gen_ai.usage.input_tokens"] == charge.input_tokens
    assert span["attributes"]["gen_ai.usage.output_tokens"] == charge.output_tokens
