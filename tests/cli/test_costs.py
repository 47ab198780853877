"""`agentpulse costs`: what a model costs, by which price, and what to do where there is none."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
from agentpulse_exporter import calculate_cost
from agentpulse_exporter._pricing.table import price_table

from agentpulse.cli import main


def costs(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The facts that the command prints of a model, by their names."""
    assert main(["costs", *arguments]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == arguments[0]
    facts: dict[str, str] = {}
    name = ""
    for line in lines:
        name = line[2:22].strip() or name
        facts[name] = " ".join(filter(None, (facts.get(name), line[23:])))
    return facts


def test_a_model_is_shown_with_its_prices_and_their_source(capsys: pytest.CaptureFixture[str]):
    facts = costs(capsys, "gpt-4o-2024-08-06")

    assert facts["provider"] == "OpenAI (openai)"
    assert facts["model"] == "gpt-4o"
    assert facts["input"] == "$2.50 per million tokens"
    assert facts["output"] == "$10.00 per million tokens"
    assert facts["cache read"] == "$1.25 per million tokens"
    assert facts["batch"].startswith("input $1.25, output $5.00")
    assert facts["source"].startswith("genai-prices ")


def test_without_a_price_table_that_is_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(pkgutil, "get_data", lambda *_given: None)
    price_table.cache_clear()

    assert main(["costs", "gpt-4o"]) == 1
    price_table.cache_clear()
    printed = capsys.readouterr()
    assert (printed.out, printed.err.splitlines()[-1]) == (
        "",
        "The price table can't be read; reinstall agentpulse-exporter.",
    )


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4o-mini", "gpt-4-turbo", "claude-opus-4", "claude-sonnet-4"]
)
def test_the_price_shown_is_the_price_that_is_reckoned_with(
    model: str, capsys: pytest.CaptureFixture[str]
):
    facts = costs(capsys, model)

    shown = [float(facts[name].split()[0].removeprefix("$")) for name in ("input", "output")]
    assert shown == [
        # A million tokens in one call would be a large context, which has a price of its own.
        pytest.approx(1000 * (calculate_cost(model, 1000, 0) or 0)),
        pytest.approx(1000 * (calculate_cost(model, 0, 1000) or 0)),
    ]


def test_a_large_context_that_costs_more_is_shown(capsys: pytest.CaptureFixture[str]):
    facts = costs(capsys, "claude-sonnet-4-5")

    assert facts["input"] == (
        "$3.00 per million tokens $6.00 for calls of more than 200,000 input tokens"
    )


def test_another_seller_than_the_maker_is_named(capsys: pytest.CaptureFixture[str]):
    facts = costs(capsys, "gpt-4o", "--provider", "azure.ai.openai")

    assert facts["provider"] == "Microsoft Azure (azure)"
    assert facts["model"] == "gpt-4o, at the standard price of OpenAI"
    assert "batch" not in facts


def test_what_is_no_token_has_its_own_unit(capsys: pytest.CaptureFixture[str]):
    assert costs(capsys, "whisper-1")["audio hours"] == "$0.36 per hour of audio"


def test_prices_of_the_users_own_win(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "prices.json"
    file.write_text('{"gpt-4o": {"input": 1, "output": 2.5}}')
    monkeypatch.setenv("AGENTPULSE_PRICES", str(file))

    assert costs(capsys, "gpt-4o") == {
        "source": "override (AGENTPULSE_PRICES)",
        "input": "$1.00 per million tokens",
        "output": "$2.50 per million tokens",
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gpt-4oo"], "No price is known for the model 'gpt-4oo'. Did you mean gpt-4o,"),
        (["my-own"], "No price is known for the model 'my-own'. AGENTPULSE_PRICES sets it."),
        (["x", "--provider", "opnai"], "No prices are known of provider 'opnai'. Try openai"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["costs", *arguments]) == 1

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(complaint)


def test_a_price_file_that_makes_no_sense_is_a_clear_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_PRICES", str(tmp_path / "missing.json"))

    assert main(["costs", "gpt-4o"]) == 1
    assert "missing.json" in capsys.readouterr().err
