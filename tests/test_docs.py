"""What the documentation names: commands, options, settings, packages, files. All of it exists."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import agentpulse_exporter
import agentpulse_instrumentation
import opentelemetry.environment_variables
import opentelemetry.instrumentation.environment_variables
import opentelemetry.sdk.environment_variables
import pytest
from agentpulse_instrumentation._engine import content
from fakes.pages import PAGES, ROOT, VENDORS, Block, blocks, prose
from opentelemetry.util.re import parse_env_headers
from packaging.requirements import Requirement

import agentpulse
from agentpulse.cli import COMMANDS
from agentpulse.settings import ROWS, resolve

PYTHON = blocks("python")
SHELL = [(block, line) for block in blocks("sh") for line in block.commands]
OURS = {
    module.__name__: module
    for module in (agentpulse, agentpulse_exporter, agentpulse_instrumentation)
}
PACKAGES = {"agentpulse-sdk", "agentpulse-exporter", "agentpulse-instrumentation", "uv"}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_imports_what_exists(block: Block) -> None:
    for module, name in block.imports:
        if module.partition(".")[0] in VENDORS and find_spec(module.partition(".")[0]) is None:
            continue
        assert name is None or hasattr(import_module(module), name), (module, name)


def ours(block: Block) -> dict[str, object]:
    """What a block calls by these names, where it is ours."""
    named: dict[str, object] = {
        name: getattr(OURS[module], name)
        for module, name in block.imports
        if name is not None and module in OURS
    }
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = OURS.get(node.value.id)
            if module is not None:
                named[ast.unparse(node)] = getattr(module, node.attr)
    return named


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_uses_our_names_and_arguments_as_they_are(block: Block) -> None:
    named = ours(block)
    for node in ast.walk(ast.parse(block.text)):
        called = named.get(ast.unparse(node.func)) if isinstance(node, ast.Call) else None
        if inspect.isfunction(called) or inspect.isclass(called):
            assert isinstance(node, ast.Call)
            given = {keyword.arg: None for keyword in node.keywords if keyword.arg is not None}
            inspect.signature(called).bind_partial(**given)


@pytest.mark.parametrize(("block", "line"), SHELL, ids=str)
def test_shell_lines_name_commands_options_and_packages_that_exist(
    block: Block, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in commands_of(line):
        if words[0] == "agentpulse":
            verify_command(words[1:], capsys)
        elif words[:2] == ["pip", "install"]:
            verify_packages(words[2:])
        else:
            known = {"export", "python3", "opentelemetry-instrument"}
            assert words[0] in known, words


def commands_of(line: str) -> Iterator[list[str]]:
    """The commands of a line, without the variables before them, and those that they start."""
    for part in re.split(r"&&|;", line):
        words = shlex.split(part)
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        if "run" in words and "agentpulse" in words[1:]:
            yield words[words.index("agentpulse") :]  # uv runs it
        yield words


def verify_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command, *options = words
    assert command in COMMANDS
    with pytest.raises(SystemExit):
        agentpulse.cli.main([command, "--help"])
    described = capsys.readouterr().out
    for word in options:
        if word == "--" or not word.startswith("-"):
            break
        assert word.partition("=")[0] in described


def verify_packages(names: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in names:
        wanted = Requirement(name)
        assert wanted.name in PACKAGES
        assert wanted.extras <= set(project["optional-dependencies"])
        assert wanted.specifier.contains(project["version"], prereleases=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(#[^)]+)?\)", prose(page))
    for target, heading in links:
        if target.startswith("http"):
            continue
        found = page if not target else (page.parent / target).resolve()
        assert found.is_file(), target
        titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not heading or heading[1:] in slugs, heading


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_variables_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"\b(?:AGENTPULSE|OTEL)_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    standard = {
        str(value)
        for module in (
            opentelemetry.environment_variables,
            opentelemetry.sdk.environment_variables,
            opentelemetry.instrumentation.environment_variables,
        )
        for name, value in vars(module).items()
        if name.startswith("OTEL_")
    }
    ours = {row.environment for row in ROWS.values()}
    assert named <= ours | standard | {content.CONTENT_VARIABLE, content.EVENT_VARIABLE}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_arguments_that_are_named_in_the_text_exist(page: Path) -> None:
    named = set(re.findall(r"`(\w+)=\w*`", prose(page)))
    elsewhere = {"tracer_provider", "id", "open_telemetry", "capture_args", "capture_result"}
    assert {name for name in named if name.islower()} <= set(ROWS) | elsewhere
    assert not named & set(dir(builtins)) - {"id"}


def back_ends() -> list[tuple[str, str, str]]:
    """The table of endpoints: name, address, headers."""
    text = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[([^]]+)\]\([^)]+\) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return [(name, address, headers.strip(" `")) for name, address, headers in rows]


@pytest.mark.parametrize(("name", "address", "headers"), back_ends(), ids=lambda cell: cell[:12])
def test_endpoints_and_headers_are_taken_as_they_are_written(
    name: str, address: str, headers: str
) -> None:
    for endpoint in re.findall(r"`(http[^`]+)`", address):
        settings = resolve({}, {"AGENTPULSE_OTLP_ENDPOINT": endpoint})
        assert (settings.problems, settings.otlp_endpoint) == ((), endpoint)
    if headers == "none":
        return
    read = parse_env_headers(headers, liberal=True)
    assert len(read) == headers.count(",") + 1
    if name == "Sentry":
        assert read == {"x-sentry-auth": "sentry sentry_key=your-public-key"}
    if name == "Langfuse":
        assert read["authorization"] == "Basic your-auth-string"


def test_the_figures_are_in_the_rows_that_the_benchmark_prints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    sizing = import_module("sizing")
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for line in sizing.markdown(AnyFigure()):
        assert f"\n{line.partition(' | ')[0]} | " in text or not line


class AnyFigure(dict[str, float]):
    def __missing__(self, name: str) -> float:
        return 1.0
