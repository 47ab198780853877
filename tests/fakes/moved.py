"""Libraries in which a name has moved: which names that may be is found by patching them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument

Held = dict[tuple[str, str], Any]
MISSING = object()


@dataclass(frozen=True)
class Name:
    """A name that is patched: of a function or a list in a module, or of a method in a class."""

    library: str
    module: str
    path: str

    def __str__(self) -> str:
        return f"{self.module}.{self.path}"

    @property
    def owner(self) -> Any:
        """What has it: a class or the module."""
        *classes, _ = self.path.split(".")
        return getattr(sys.modules[self.module], classes[0]) if classes else self.defining

    @property
    def defining(self) -> ModuleType:
        return sys.modules[self.module]

    @property
    def last(self) -> str:
        return self.path.rpartition(".")[2]


def held(package: str) -> Held:
    """All that stands in the modules of a package and in their classes; of lists, the items."""
    found: Held = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != package or not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            # Not by `isinstance`, which has openai make a client to see what is the class of that.
            found[name, attribute] = [*value] if type(value) is list else value
            if issubclass(type(value), type) and value.__module__ == name:
                for method, inner in vars(value).items():
                    # Models are completed when they are first looked at.
                    if not method.startswith(("__pydantic_", "__signature__")):
                        found[name, f"{attribute}.{method}"] = inner
    return found


def changed(before: Held, package: str) -> set[tuple[str, str]]:
    """The names that don't hold the very same any more, but for what was imported since."""
    modules = {module for module, _ in before}
    now = {
        (module, path): value
        for (module, path), value in held(package).items()
        if module in modules and not _is_module(value)
    }
    names = {*now, *(name for name, held in before.items() if not _is_module(held))}
    return {name for name in names if not _same(before.get(name, MISSING), now.get(name, MISSING))}


def _is_module(value: Any) -> bool:
    return issubclass(type(value), ModuleType)


def _same(one: Any, other: Any) -> bool:
    if type(one) is type(other) is list:
        return [*map(id, one)] == [*map(id, other)]
    return one is other


def names(library: str) -> list[Name]:
    """Every name of a library that its instrumentor patches, in modules that are imported."""
    (instrumentor, package), *_ = [
        (name, each.modules[0].split(".")[0])
        for name, kind in INSTRUMENTORS.items()
        for each in kind.libraries()
        if each.name == library
    ]
    before = held(package)
    instrument([instrumentor])
    try:
        return [Name(library, *each) for each in sorted(changed(before, package))]
    finally:
        uninstrument()


def _gone(name: Name) -> Any:
    return MISSING


def _of_another_kind(name: Name) -> Any:
    if isinstance(vars(name.owner)[name.last], list):
        return ()
    return property(lambda _self: None) if isinstance(name.owner, type) else 7


WAYS: dict[str, Callable[[Name], Any]] = {"gone": _gone, "of another kind": _of_another_kind}
"""What stands in the place of a name that moved."""


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Puts a value in the place of another one, or nothing."""
    original = vars(owner)[name]
    if value is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def moved(name: Name, way: str) -> Iterator[None]:
    """Moves a name away."""
    with replaced(name.owner, name.last, WAYS[way](name)):
        yield


MOVING = """
import importlib, json, sys
import wrapt

def move(module):
    *classes, name = sys.argv[2].split(".")
    owner = getattr(module, classes[0]) if classes else module
    delattr(owner, name)

# What is registered first is called first: when AgentPulse looks, the name is gone already.
wrapt.register_post_import_hook(move, sys.argv[1])
"""
"""How a program begins that imports a library later; it is given a module and a path in it."""
