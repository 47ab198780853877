"""One session per promise. `nox` runs the ones marked default; `nox -l` lists all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PROJECTS = [
    nox.project.load_toml(ROOT / folder / "pyproject.toml")["project"]
    for folder in (".", "exporters", "instrumentors")
]
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
VERSIONS = nox.project.load_toml(ROOT / "versions.toml")
PYTHONS = VERSIONS["pythons"]
BETWEEN_PYTHON = PYTHONS[1]


def lower_bounds(requirements: list[str]) -> list[str]:
    """The oldest versions that these ask for, as the only ones."""
    bounded = (requirement for requirement in requirements if ">=" in requirement)
    return sorted({requirement.replace(">=", "==") for requirement in bounded})


# The newest OpenTelemetry is what the lock file holds; wrapt patches for it.
OPENTELEMETRY = {
    "oldest": lower_bounds(
        [
            *(requirement for project in PROJECTS for requirement in project["dependencies"]),
            *PROJECTS[0]["optional-dependencies"]["otlp"],
        ]
    )
}
PROVIDERS = {**VERSIONS["providers"]}
PROVIDERS["oldest"] += lower_bounds(PROJECTS[0]["optional-dependencies"]["demo"])
# Wheels of the same version were built here before, and uv may have kept those.
FROM_DIST = (
    f"--find-links={ROOT / 'dist'}",
    "--refresh-package=agentpulse-exporter",
    "--refresh-package=agentpulse-instrumentation",
)
OF_CLIENTS = (
    "tests/recording", "tests/transparency", "tests/privacy", "tests/ledger/test_tree.py",
    "tests/cli/test_demo.py",
)  # fmt: skip
OF_SPANS = (
    "tests/ledger", "tests/delivery", "tests/tracing", "tests/otel", "tests/process", "tests/init",
    "tests/cli", "tests/privacy/test_bodies_of_others.py",
)  # fmt: skip
# Many tests wait for a server or another process, so workers pay even on two cores.
PARALLEL = ("--numprocesses=auto", "--dist=worksteal")

if shutil.which("pyenv"):
    # pyenv's shims answer only for the versions that are activated, and where nox itself was
    # started by one, that is a single one.
    listed = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
    )
    found = [v for v in listed.stdout.split() if v.rpartition(".")[0] in PYTHONS]
    os.environ["PYENV_VERSION"] = ":".join(sorted(found))


def sync(session: nox.Session, *groups: str) -> None:
    """Installs the workspace and the groups into the session's environment, by the lock file."""
    arguments = [f"--group={group}" for group in groups]
    session.run_install(
        "uv", "sync", "--frozen", "--all-packages", "--no-default-groups", *arguments,
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    sync(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    for folder in (ROOT, ROOT / "exporters", ROOT / "instrumentors"):
        session.chdir(folder)
        session.run("deptry", "src")


@nox.session
def types(session: nox.Session) -> None:
    sync(session, "test", "lint")
    session.run("pyright", f"--pythonpath={session.bin}/python")
    # What users' type checkers see.
    session.run("pyright", f"--pythonpath={session.bin}/python", "tests/typing")
    session.run("mypy", "--strict", "tests/typing")


@nox.session(python=[version for version in PYTHONS if version != BETWEEN_PYTHON])
def tests(session: nox.Session) -> None:
    """All tests; on the newest Python without those that `providers` runs there."""
    run_by_providers = OF_CLIENTS if session.python == PYTHONS[-1] else ()
    all_tests(session, *(f"--ignore={folder}" for folder in run_by_providers))


def all_tests(session: nox.Session, *options: str) -> None:
    """With the newest of everything, as the lock file has it."""
    sync(session, "test")
    session.run("pytest", *PARALLEL, *options, *session.posargs)


@nox.session(python=BETWEEN_PYTHON)
@nox.parametrize("versions", list(OPENTELEMETRY))
def opentelemetry(session: nox.Session, versions: str) -> None:
    """With the oldest supported OpenTelemetry, and the Python that `tests` leaves out."""
    sync(session, "test")
    session.install(*OPENTELEMETRY[versions])
    session.run("pytest", *PARALLEL, *OF_SPANS, *session.posargs)


@nox.session(python=PYTHONS[-1])
@nox.parametrize("versions", list(PROVIDERS))
def providers(session: nox.Session, versions: str) -> None:
    """The instrumentation with the oldest of all that is supported, and with clients in between."""
    sync(session, "test")
    session.install(*PROVIDERS[versions], *OPENTELEMETRY.get(versions, ()))
    session.run("pytest", *PARALLEL, *OF_CLIENTS, *session.posargs)


@nox.session
@nox.parametrize("versions", ["oldest", "newest"])
def frameworks(session: nox.Session, versions: str) -> None:
    """LangChain and LangGraph, with the clients that each version brings."""
    if versions == "newest":
        sync(session, "test", "frameworks")
    else:
        sync(session, "test")
        session.install(*VERSIONS["frameworks"][versions])
    session.run("pytest", *PARALLEL, "tests/frameworks", *session.posargs)


@nox.session
@nox.parametrize("versions", ["oldest", "newest"])
def litellm(session: nox.Session, versions: str) -> None:
    """LiteLLM, which asks for other versions of the client libraries than the lock file has."""
    sync(session, "test")
    session.install(*VERSIONS["litellm"][versions])
    session.run("pytest", *PARALLEL, "tests/litellm", *session.posargs)


@nox.session
def stacks(session: nox.Session) -> None:
    """What is told is what was billed, in every stack and beside other instrumentations."""
    sync(session, "test")
    session.install(*VERSIONS["stacks"]["newest"])
    session.run("pytest", *PARALLEL, "--dist=loadgroup", "tests/stacks", *session.posargs)


@nox.session
def web(session: nox.Session) -> None:
    """A web application and Celery under opentelemetry-instrument: their workers are forked."""
    sync(session, "test")
    session.install(*VERSIONS["web"]["newest"])
    session.run("pytest", "tests/web", *session.posargs)


# Every set of versions; `tests` is the one of the lock file.
CELLS: dict[str, Callable[[nox.Session], None]] = {
    "tests": all_tests,
    "opentelemetry, oldest": partial(opentelemetry, versions="oldest"),
    "providers, oldest": partial(providers, versions="oldest"),
    "providers, between": partial(providers, versions="between"),
    "frameworks, oldest": partial(frameworks, versions="oldest"),
    "frameworks, newest": partial(frameworks, versions="newest"),
    "litellm, oldest": partial(litellm, versions="oldest"),
    "litellm, newest": partial(litellm, versions="newest"),
    "stacks": stacks,
    "web": web,
}


@nox.session(default=False, python=PYTHONS)
@nox.parametrize("cell", list(CELLS))
def matrix(session: nox.Session, cell: str) -> None:
    """Every Python with every set of versions."""
    CELLS[cell](session)


@nox.session
def collector(session: nox.Session) -> None:
    """Spans by OTLP through a packaged collector, whose binary its wheel holds."""
    sync(session, "test")
    session.install(*VERSIONS["collector"]["newest"])
    session.run("pytest", "tests/collector", *session.posargs)


@nox.session
def pipelines(session: nox.Session) -> None:
    """Beside other products on OpenTelemetry: one provider, and each span told of once."""
    sync(session, "test")
    session.install(*VERSIONS["pipelines"]["newest"])
    session.run("pytest", *PARALLEL, "--dist=loadgroup", "tests/pipelines", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheels and source distributions of all three, in dist/."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("uv", "build", "--all-packages", "--out-dir", "dist", external=True)


@nox.session(requires=["build"])
@nox.parametrize(
    "distribution", ["agentpulse_exporter", "agentpulse_instrumentation", "agentpulse_sdk"]
)
def alone(session: nox.Session, distribution: str) -> None:
    """Each wheel installs and imports with only its own dependencies, outside the repository."""
    session.install(wheel(distribution), *FROM_DIST)
    session.chdir(session.create_tmp())
    module = "agentpulse" if distribution == "agentpulse_sdk" else distribution
    # With all names that it has, because some are loaded when they are used.
    session.run("python", "-W", "error", "-c", f"from {module} import *; print(sorted(globals()))")


@nox.session(requires=["build"])
def public(session: nox.Session) -> None:
    """Users' type checkers know all public types of the wheels, and nothing else is public."""
    pyright = next(each for each in GROUPS["lint"] if each.startswith("pyright"))
    session.install(wheel("agentpulse_sdk[demo]"), *FROM_DIST, pyright)
    session.run("python", "scripts/check_public.py")


def wheel(name: str) -> str:
    """The wheel of one of our distributions, with the extras that were named; else the name."""
    distribution, bracket, extras = name.partition("[")
    found = sorted((ROOT / "dist").glob(f"{distribution}-*.whl"))
    return f"{found[-1]}{bracket}{extras}" if found else name


@nox.session(requires=["build"])
def ways(session: nox.Session) -> None:
    """What pip installs, outside the repository: all ways in tell the same, packed or not."""
    sync(session, "test")
    with TemporaryDirectory() as folder:
        for name, wanted in VERSIONS["installed"].items():
            environment = Path(folder, name)
            session.run("python", "-m", "venv", str(environment))
            session.run(
                *(f"{environment}/bin/python", "-m", "pip", "install", "--quiet", "--no-compile"),
                *("--disable-pip-version-check", f"--find-links={ROOT / 'dist'}"),
                *map(wheel, wanted),
                external=True,
            )
        # One process, because each of the ways is gone once for all tests.
        variables = {"AGENTPULSE_TEST_ENVIRONMENTS": folder}
        session.run("pytest", "tests/ways", *session.posargs, env=variables)


@nox.session(default=False)
def prices(session: nox.Session) -> None:
    """Makes prices.json anew from the pinned genai-prices; with `-- --check` it only compares."""
    sync(session, "test")
    session.run("python", "scripts/build_prices.py", *session.posargs)


@nox.session(default=False)
def dialects(session: nox.Session) -> None:
    """Records the spans of other instrumentations anew, each in an environment of its own."""
    session.install("uv")
    session.run("python", "scripts/record_dialects.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    sync(session, "test")
    session.run("python", "bench/overhead.py", *session.posargs)
    session.run("python", "bench/tracing.py", *session.posargs)
    session.run("python", "bench/sizing.py", *session.posargs)
