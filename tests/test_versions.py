"""The supported versions are the same wherever they are stated, and they are tested."""

from __future__ import annotations

import tomllib
from itertools import takewhile
from pathlib import Path

import pytest
from agentpulse_instrumentation import INSTRUMENTORS
from agentpulse_instrumentation._engine.client import ClientInstrumentor
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
HEAD = "| library | versions | calls |"
PROJECTS = [
    tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for folder in (".", "exporters", "instrumentors")
]
SUPPORTED = {
    requirement.name: requirement
    for requirement in (Requirement(kind.supported) for kind in INSTRUMENTORS.values())
}
CLIENTS = [
    Requirement(kind.supported).name
    for kind in INSTRUMENTORS.values()
    if issubclass(kind, ClientInstrumentor)
]
COMPANIONS = {
    library.name: Requirement(library.supported)
    for kind in INSTRUMENTORS.values()
    for library in kind.companions
}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


VERSIONS = tomllib.loads(read("versions.toml"))


def bounds(requirement: Requirement) -> dict[str, str]:
    return {each.operator: each.version for each in requirement.specifier}


def spoken(requirement: Requirement) -> str:
    """As the documentation says it: `1.66 to 3.x`."""
    first, last = bounds(requirement)[">="], int(bounds(requirement)["<"]) - 1
    return f"{first.removesuffix('.0')} to {last}.x"


def pinned(requirements: list[str]) -> dict[str, Version]:
    each = (Requirement(text) for text in requirements if "==" in text)
    return {r.name: Version(next(iter(r.specifier)).version) for r in each}


def locked(name: str) -> Version:
    packages = tomllib.loads(read("uv.lock"))["package"]
    # A group of dependencies may have its own version of what the others have too.
    return max(Version(each["version"]) for each in packages if each["name"] == name)


def opentelemetry() -> dict[str, set[str]]:
    """The lower bounds that our distributions ask for, by package."""
    found: dict[str, set[str]] = {}
    for project in PROJECTS:
        extras = project.get("optional-dependencies", {}).values()
        for text in [*project["dependencies"], *(text for extra in extras for text in extra)]:
            requirement = Requirement(text)
            if requirement.name.startswith("opentelemetry-"):
                found.setdefault(requirement.name, set()).add(bounds(requirement)[">="])
    return found


def test_the_readme_says_the_supported_versions_of_the_libraries():
    lines = read("README.md").splitlines()
    _, *rows = takewhile(lambda line: line.startswith("|"), lines[lines.index(HEAD) + 1 :])
    table = dict(row.strip("| ").split(" | ")[:2] for row in rows)

    expected = {name: spoken(requirement) for name, requirement in SUPPORTED.items()}
    majors = bounds(COMPANIONS["langgraph"])[">="].replace(".0.0", ".x")
    expected["langchain, langgraph"] = f"core {expected.pop('langchain-core')}, {majors}"
    assert table == expected


def test_the_readme_of_the_instrumentation_says_them_too():
    (line,) = [
        each for each in read("instrumentors/README.md").splitlines() if "Supported:" in each
    ]

    libraries = [f"{name} {spoken(requirement)}" for name, requirement in SUPPORTED.items()]
    for text in libraries:
        assert text in line
    assert len(libraries) == line.count(" to ") - 1  # and the Pythons
    assert "langgraph 1.x" in line


def test_python_and_opentelemetry_are_stated_as_they_are_asked_for():
    pythons, found = VERSIONS["pythons"], opentelemetry()
    (stable,) = set().union(*(v for name, v in found.items() if "instrumentation" not in name))
    (beta,) = set().union(*(v for name, v in found.items() if "instrumentation" in name))

    asked = f"Python {pythons[0]} to {pythons[-1]}, OpenTelemetry {stable} ({beta})"
    assert asked in " ".join(read("README.md").split())
    assert asked in " ".join(read("instrumentors/README.md").split())
    for project in PROJECTS:
        assert project["requires-python"] == f">={pythons[0]}"
    prefix = "Programming Language :: Python :: 3."
    classified = [c for c in PROJECTS[0]["classifiers"] if c.startswith(prefix)]
    assert [each.rpartition(" ")[2] for each in classified] == pythons


def test_the_oldest_clients_of_the_demo_are_the_oldest_supported():
    demo = [Requirement(text) for text in PROJECTS[0]["optional-dependencies"]["demo"]]

    oldest = {each.name: Version(bounds(each)[">="]) for each in demo if each.specifier}
    assert oldest == {
        name: Version(bounds(SUPPORTED[name])[">="]) for name in ("openai", "anthropic")
    }


@pytest.mark.parametrize("name", sorted(SUPPORTED.keys() | COMPANIONS.keys()))
def test_the_oldest_supported_version_is_tested(name: str):
    demo = [text.replace(">=", "==") for text in PROJECTS[0]["optional-dependencies"]["demo"]]
    # LiteLLM and the frameworks pin clients of their own choice; those of `providers` decide.
    oldest = [VERSIONS[session]["oldest"] for session in ("litellm", "frameworks", "providers")]
    tested = pinned([text for pins in (*oldest, demo) for text in pins])

    assert tested[name] == Version(bounds({**SUPPORTED, **COMPANIONS}[name])[">="])


@pytest.mark.parametrize("name", CLIENTS)
def test_every_major_version_of_a_client_is_tested(name: str):
    oldest, below = (bounds(SUPPORTED[name])[operator] for operator in (">=", "<"))
    between = pinned(VERSIONS["providers"]["between"])
    tested = {Version(oldest), locked(name), between.get(name, locked(name))}

    majors = {each.major for each in tested}
    assert majors == set(range(Version(oldest).major, int(below))), f"{name}: tested are {tested}"
    assert all(SUPPORTED[name].specifier.contains(each) for each in tested)


def test_every_instrumentor_is_an_entry_point_of_opentelemetry():
    project = tomllib.loads(read("instrumentors/pyproject.toml"))["project"]
    assert project["entry-points"]["opentelemetry_instrumentor"] == {
        f"agentpulse_{name}": f"agentpulse_instrumentation:{kind.__name__}"
        for name, kind in INSTRUMENTORS.items()
    }


@pytest.mark.parametrize("name", INSTRUMENTORS)
def test_the_page_of_automatic_instrumentation_names_every_entry_point(name: str):
    assert f"`agentpulse_{name}`" in read("docs/without-code.md")
