"""A name that has moved in a library costs that library alone, whenever it is imported."""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import openai
import openai._base_client
import pytest
from agentpulse_instrumentation import (
    INSTRUMENTORS,
    AnthropicInstrumentor,
    OpenAIInstrumentor,
    Patches,
    instrument,
    not_recorded,
    uninstrument,
)
from agentpulse_instrumentation._engine import patching
from agentpulse_instrumentation._engine.patching import Library, is_missing, when_imported
from fakes import moved, processes
from fakes.moved import MOVING, WAYS, Name

LIBRARIES = (openai, anthropic)
NAMES = [name for library in LIBRARIES for name in moved.names(library.__name__)]
HELLO: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def bare(spans: Any) -> None:
    uninstrument()


def ask(library: str, clients: Any) -> None:
    """Makes a call with the sync client and one with the async client."""
    given: dict[str, Any] = {"model": "a-model", "messages": HELLO, "max_tokens": 9}
    if library == "openai":
        clients.openai.chat.completions.create(**given)
        clients.run(clients.aopenai.chat.completions.create(**given))
    else:
        clients.anthropic.messages.create(**given)
        clients.run(clients.aanthropic.messages.create(**given))


def other(library: str) -> str:
    return "anthropic" if library == "openai" else "openai"


def test_what_is_patched_is_found_by_patching_it():
    assert {str(name) for name in NAMES} >= {
        f"{library}._base_client.{owner}.request"
        for library in ("openai", "anthropic")
        for owner in ("SyncAPIClient", "AsyncAPIClient")
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_name_that_moved_costs_its_library_alone(
    name: Name, way: str, clients: Any, spans: Any, warnings: list[str]
):
    library, all_of_it = name.library, sum(each.library == name.library for each in NAMES)
    with moved.moved(name, way):
        before = moved.held(library)
        for _ in range(2):
            instrument(tracer_provider=spans.provider)

            assert moved.changed(before, library) == set()
            assert not INSTRUMENTORS[library]().is_patched
            assert not INSTRUMENTORS[library]().is_instrumented_by_opentelemetry
            assert INSTRUMENTORS[other(library)]().is_patched
            # Once, however often it is tried.
            (warning,) = warnings
            assert warning.startswith(f"{library} {version(library)} is not recorded: ")
            assert f"{all_of_it - 1} of {all_of_it} patches could be put on" in warning
            assert f"because {name} is " in warning
            reason = not_recorded()[library]
            assert warning.startswith(f"{library} {reason}. ")
            assert set(not_recorded()) == {library}
        ask(other(library), clients)
        uninstrument()
    assert len(spans()) == 2

    instrument(tracer_provider=spans.provider)
    assert not_recorded() == {}
    assert INSTRUMENTORS[library]().is_patched


@pytest.mark.parametrize("stands_there", [lambda: None, None], ids=["a function", "None"])
@pytest.mark.parametrize("name", NAMES, ids=str)
def test_so_does_a_class_that_is_none_any_more(
    name: Name, stands_there: Any, spans: Any, warnings: list[str]
):
    class_name = name.path.partition(".")[0]
    with moved.replaced(name.defining, class_name, stands_there):
        before = moved.held(name.library)
        instrument(tracer_provider=spans.provider)

        assert moved.changed(before, name.library) == set()
        assert set(not_recorded()) == {name.library}
        (warning,) = warnings
        assert f"because {name.module}.{class_name} is " in warning


@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_a_library_that_is_not_recorded_works_as_without(
    library: str, clients: Any, spans: Any, warnings: list[str]
):
    seam = sys.modules[f"{library}._base_client"].AsyncAPIClient
    base, original = seam.__mro__[1], vars(seam)["request"]
    # As a release might have it.
    base.request = original
    try:
        with moved.replaced(seam, "request", moved.MISSING):
            instrument(tracer_provider=spans.provider)
            ask(library, clients)
    finally:
        del base.request
    assert spans() == []
    assert len(warnings) == 1


@pytest.mark.parametrize("class_name", ["SyncAPIClient", "AsyncAPIClient"])
def test_a_method_that_is_async_where_it_was_not_is_another_one(
    class_name: str, spans: Any, warnings: list[str]
):
    owner = getattr(openai._base_client, class_name)

    def request(self: Any, *args: Any) -> None:
        """As it isn't."""

    async def arequest(self: Any, *args: Any) -> None:
        """The same."""

    with moved.replaced(owner, "request", arequest if class_name == "SyncAPIClient" else request):
        instrument(["openai"], tracer_provider=spans.provider)

        assert not OpenAIInstrumentor().is_patched
    assert f"openai._base_client.{class_name}.request is " in warnings[0]
    assert "async" in warnings[0]


class Frozen(type):
    """As a class that is compiled: nothing can be set on it."""

    def __setattr__(cls, name: str, value: object) -> None:
        message = f"cannot set {name!r} attribute of immutable type"
        raise TypeError(message)


class Raising(type):
    """As a class that makes its attributes up."""

    def __getattribute__(cls, name: str) -> Any:
        if name == "__dict__":
            raise KeyError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", [Frozen, Raising])
def test_whatever_patching_raises_is_a_name_that_moved(kind: type, spans: Any, warnings: list[str]):
    original = openai._base_client.AsyncAPIClient
    odd = kind("AsyncAPIClient", (), {"request": vars(original)["request"]})
    with moved.replaced(openai._base_client, "AsyncAPIClient", odd):
        instrument(tracer_provider=spans.provider)

        assert {name: INSTRUMENTORS[name]().is_patched for name in ("openai", "anthropic")} == {
            "openai": False,
            "anthropic": True,
        }
        assert set(not_recorded()) == {"openai"}
    assert "1 of 2 patches could be put on and were taken back" in warnings[0]


def test_by_itself_an_instrumentor_raises_nothing_either(spans: Any, warnings: list[str]):
    (name, *_) = (each for each in NAMES if each.library == "anthropic")
    anthropics = AnthropicInstrumentor()
    with moved.moved(name, "gone"):
        # As opentelemetry-instrument does.
        anthropics.instrument(tracer_provider=spans.provider, raise_exception_on_conflict=True)

        assert not anthropics.is_instrumented_by_opentelemetry
        assert list(anthropics.not_recorded) == ["anthropic"]
    assert len(warnings) == 1

    anthropics.instrument(tracer_provider=spans.provider)
    assert anthropics.is_patched
    assert anthropics.is_instrumented_by_opentelemetry
    assert anthropics.not_recorded == {}


def test_what_fails_while_one_is_taken_back_keeps_no_other_patched(
    clients: Any, spans: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(patching, "strict", False)
    before = {library: moved.held(library) for library in ("openai", "anthropic")}
    instrument(tracer_provider=spans.provider)

    left: list[object] = []

    class Breaking:
        def left(self) -> None:
            left.append(self)
            raise KeyError

    breaking = Breaking(), Breaking()
    wanted = OpenAIInstrumentor().recording
    assert wanted is not None
    for each in breaking:
        wanted.opened(each)
    uninstrument()
    assert len(left) == 2

    assert {library: moved.changed(before[library], library) for library in before} == {
        "openai": set(),
        "anthropic": set(),
    }
    ask("openai", clients)
    assert spans() == []


@pytest.mark.parametrize("found", ["not a version", None, "3.54.0+our.fork"])
def test_a_version_that_cannot_be_compared_keeps_nothing_from_being_recorded(
    found: str | None, spans: Any, monkeypatch: pytest.MonkeyPatch
):
    real = patching.version
    # As importlib.metadata finds it in a damaged installation.
    monkeypatch.setattr(patching, "version", lambda name: found if name == "openai" else real(name))
    instrument(tracer_provider=spans.provider)

    assert OpenAIInstrumentor().is_patched
    assert AnthropicInstrumentor().is_patched


def test_an_unsupported_version_is_warned_of_once_and_costs_itself_alone(
    spans: Any, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
):
    real = patching.version
    monkeypatch.setattr(patching, "version", lambda name: "4.0" if name == "openai" else real(name))
    for _ in range(2):
        instrument(tracer_provider=spans.provider)
        uninstrument()

    reason = "4.0 is not recorded: <4,>=1.66.0 is supported"
    assert warnings == [f"openai {reason}. Install another version of it, or update agentpulse."]
    instrument(tracer_provider=spans.provider)
    assert not_recorded() == {"openai": reason}
    assert AnthropicInstrumentor().is_patched


def test_a_younger_name_is_missing_only_where_it_should_be_there(monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("a_module")
    library = Library("a library", "a-library >= 1", ("a_module",))

    def problem(installed: str) -> str | None:
        monkeypatch.setattr(patching, "version", lambda _package: installed)
        patches = Patches(library)
        patches.replace(module, "younger", lambda original: original, since="1.14")
        return patches.problem

    assert problem("1.13.0") is None
    assert problem("unknown") is None
    missing = "0 of 1 patches could be put on, because a_module.younger is missing"
    assert problem("1.14.0") == problem("2.0") == missing


# Imports happen once in a process, so what follows runs in one of its own.

LATER = """
import agentpulse_instrumentation as instrumentation
from opentelemetry.sdk.trace import TracerProvider

instrumentation.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
import anthropic, openai  # neither fails
seams = {
    f"{name}.{owner}": getattr(sys.modules[name + "._base_client"], owner, None)
    for name in ("anthropic", "openai")
    for owner in ("SyncAPIClient", "AsyncAPIClient")
}
print(json.dumps({
    "patched": [name for name, kind in instrumentation.INSTRUMENTORS.items() if kind().is_patched],
    "not recorded": instrumentation.not_recorded(),
    "left": [
        name for name, seam in seams.items()
        if hasattr(vars(seam).get("request"), "__wrapped__")
    ],
}))
"""


def ran(code: str, *arguments: str, path: Path | None = None) -> tuple[Any, str]:
    done = processes.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **({} if path is None else {"PYTHONPATH": str(path)})},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_name_that_moved_in_a_library_that_is_imported_later_costs_that_alone(name: Name):
    result, logged = ran(MOVING + LATER, name.module, name.path)

    left = other(name.library)
    assert result["patched"] == [left]
    assert list(result["not recorded"]) == [name.library]
    assert set(result["left"]) == {f"{left}.SyncAPIClient", f"{left}.AsyncAPIClient"}
    (line,) = logged.splitlines()
    assert line.startswith(f"{name.library} {version(name.library)} is not recorded: ")
    assert str(name) in line


def test_a_module_that_moved_is_warned_of_before_it_is_missed(tmp_path: Path):
    package = tmp_path / "openai"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_core.py").touch()
    code = """
import json, sys
from agentpulse_instrumentation import instrument, not_recorded
instrument(["openai"])
print(json.dumps([not_recorded(), "openai" in sys.modules]))
"""
    result, logged = ran(code, path=tmp_path)

    reason = f"{version('openai')} is not recorded: openai._base_client is missing"
    assert result == [{"openai": reason}, False]
    assert logged.startswith(f"openai {reason}. ")


def test_modules_are_missing_only_where_they_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in ("plain", "plain/inside", "spread/inside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "plain/__init__.py").touch()
    (tmp_path / "plain/inside/module.py").touch()
    (tmp_path / "spread/inside/module.abi3.so").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    there = ("plain", "plain.inside", "plain.inside.module", "spread.inside.module")
    assert not any(map(is_missing, there))
    assert all(map(is_missing, ("plain.module", "plain.inside.gone", "spread.inside.gone")))
    # Where the package itself isn't found, nobody knows.
    assert not any(map(is_missing, ("nowhere", "nowhere.module", "sys.gone", "json.decoder")))
    assert not {"plain", "spread"} & set(sys.modules)


def test_a_module_that_is_being_imported_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "half_run.py").write_text("import half_run_inside\nname = 1\n")
    (tmp_path / "half_run_inside.py").write_text("import sys\nsys.meeting()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[list[str]] = []

    def then(module: ModuleType) -> None:
        seen.append([name for name in vars(module) if name == "name"])

    def meeting() -> None:
        for _ in range(2):
            when_imported("half_run", then)
        assert seen == []

    monkeypatch.setattr(sys, "meeting", meeting, raising=False)
    try:
        module = importlib.import_module("half_run")
        assert seen == [["name"], ["name"]]
        assert type(module.__spec__) is type(sys.__spec__)
        assert importlib.import_module("half_run") is module
    finally:
        for name in ("half_run", "half_run_inside"):
            sys.modules.pop(name, None)


def test_a_module_whose_import_fails_is_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = "import half_failing_inside\nif half_failing_inside.fails:\n    raise KeyError\n"
    (tmp_path / "half_failing.py").write_text(source)
    (tmp_path / "half_failing_inside.py").write_text("import sys\nfails = sys.meeting()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[ModuleType] = []

    def meeting() -> bool:
        when_imported("half_failing", seen.append)
        return True

    monkeypatch.setattr(sys, "meeting", meeting, raising=False)
    try:
        with pytest.raises(KeyError):
            importlib.import_module("half_failing")
        assert seen == []
        sys.modules["half_failing_inside"].fails = False  # type: ignore[attr-defined]
        module = importlib.import_module("half_failing")
        assert seen == [module]
    finally:
        for name in ("half_failing", "half_failing_inside"):
            sys.modules.pop(name, None)
