"""Who may import whom, and what holds for every module: read from the sources, nothing is run."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import agentpulse_exporter._semconv
import agentpulse_instrumentation._engine.semconv
import pytest
from agentpulse_instrumentation._engine.recording import VERSION
from packaging.requirements import Requirement

import agentpulse

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "agentpulse": ROOT / "src/agentpulse",
    "agentpulse_exporter": ROOT / "exporters/src/agentpulse_exporter",
    "agentpulse_instrumentation": ROOT / "instrumentors/src/agentpulse_instrumentation",
}
PROJECTS = [ROOT, ROOT / "exporters", ROOT / "instrumentors"]
MODULES = [path for package in PACKAGES.values() for path in sorted(package.rglob("*.py"))]
MOST_LINES = 400
STARTING = {f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")}
STANDARD = sys.stdlib_module_names | {"_typeshed"}  # the latter is for type checkers alone


def imported(path: Path) -> Iterator[str]:
    """Every module that a source imports, wherever in it, by its full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module


def foreign(folder: Path, own: str) -> dict[str, set[str]]:
    """What the sources below a folder import beside themselves and the standard library."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        if path.name.startswith("hook-"):
            continue  # PyInstaller runs these, in an environment that has it
        for module in imported(path):
            root = module.partition(".")[0]
            if root != own and root not in STANDARD:
                found.setdefault(root, set()).add(str(path.relative_to(ROOT)))
    return found


def test_tests_start_programs_in_one_way_which_ends_them():
    calls = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTING
        if path.name not in ("processes.py", "leftovers.py")
    }

    assert calls == set(), "use fakes.processes"


def test_the_exporter_imports_opentelemetry_and_nothing_else():
    assert set(foreign(PACKAGES["agentpulse_exporter"], "agentpulse_exporter")) == {"opentelemetry"}


def test_the_instrumentation_imports_opentelemetry_and_wrapt_and_nothing_else():
    found = set(foreign(PACKAGES["agentpulse_instrumentation"], "agentpulse_instrumentation"))

    # opentelemetry-instrumentation compares versions by packaging, and so brings it.
    brought = {Requirement(text).name for text in requires("opentelemetry-instrumentation") or ()}
    assert found - (brought & {"packaging"}) == {"opentelemetry", "wrapt"}


def test_the_sdk_imports_its_extras_only_where_they_are_needed():
    found = foreign(PACKAGES["agentpulse"], "agentpulse")

    layers = {"agentpulse_exporter", "agentpulse_instrumentation", "opentelemetry", "packaging"}
    needed_by_extras = {
        path for root, paths in found.items() if root not in layers for path in paths
    }
    extras = ("src/agentpulse/server/", "src/agentpulse/demo/", "src/agentpulse/cli/_de")
    assert [path for path in sorted(needed_by_extras) if not path.startswith(extras)] == []


def constants(module: object) -> dict[str, str]:
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }


def test_the_two_modules_of_names_agree_on_what_both_name():
    reading = constants(agentpulse_exporter._semconv)
    writing = constants(agentpulse_instrumentation._engine.semconv)

    both = reading.keys() & writing.keys()
    assert len(both) > 30
    assert {name: reading[name] for name in both} == {name: writing[name] for name in both}
    # The same attribute under two names would escape that comparison.
    shared = set(reading.values()) & set(writing.values())
    assert shared == {reading[name] for name in both}


def test_the_three_distributions_have_one_version_and_ask_for_that_of_each_other():
    projects = [
        tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for folder in PROJECTS
    ]

    (version,) = {project["version"] for project in projects}
    assert {agentpulse.__version__, agentpulse_exporter.__version__, VERSION} == {version}
    ours = [
        requirement
        for project in projects
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name.startswith("agentpulse-")
    ]
    assert [(each.name, str(each.specifier)) for each in ours] == [
        ("agentpulse-exporter", f"=={version}"),
        ("agentpulse-instrumentation", f"=={version}"),
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_its_subject_and_ends_before_it_has_two(path: Path):
    source = path.read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(source)), "no docstring says what it is about"
    assert source.count("\n") <= MOST_LINES


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_reports_that_it_is_typed(package: str):
    assert (PACKAGES[package] / "py.typed").is_file()
