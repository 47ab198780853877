"""Waits for modules: nothing is imported for the user."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, all_suffixes
from os.path import exists, isdir, join
from types import ModuleType
from typing import Any, cast

import wrapt

Then = Callable[[ModuleType], object]
_WAITING = "_agentpulse_waiting"


def when_imported(name: str, then: Then) -> None:
    """Calls `then` with the module when it has been imported, now if it has been already.

    This can't be taken back, so `then` asks whether it is still wanted. What it raises would fail
    the user's import.
    """
    module = sys.modules.get(name)
    if module is None:
        # wrapt has no types for it.
        wrapt.register_post_import_hook(then, name)  # pyright: ignore[reportUnknownMemberType]
    elif not is_imported(name) and type(module.__spec__) in {ModuleSpec, _Importing}:
        _wait_for(cast("ModuleSpec", module.__spec__), then)
    else:
        then(module)


def is_imported(name: str) -> bool:
    """Whether the module has been run: one that is being imported lacks some of its names."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


def is_missing(name: str) -> bool:
    """Whether the module's package is installed and has no such module; imports nothing.

    False where that can't be known: only packages of plain files are looked through.
    """
    if name in sys.modules or not isinstance(__loader__, SourceFileLoader):
        # Where this module is in an archive or compiled, so may be others, in ways of their own.
        return False
    package, *inside = name.split(".")
    spec = PathFinder.find_spec(package)
    folders = list((spec and spec.submodule_search_locations) or ())
    if not folders or not all(map(isdir, folders)):
        return False
    # The empty one is that of a package.
    endings = ("", *all_suffixes())
    paths = [join(folder, *inside) for folder in folders]  # noqa: PTH118  # as below
    return not any(exists(path + end) for path in paths for end in endings)  # noqa: PTH110  # pathlib's raises


class _Importing(ModuleSpec):
    """The spec of a module that is being imported: when that is over, the import notes it here.

    An import hook would come too late, for the loader is at work.
    """

    @property
    def _initializing(self) -> bool:
        return vars(self)["_initializing"]

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        vars(self)["_initializing"] = value
        if not value:
            _go_on(self)


def _wait_for(spec: ModuleSpec, then: Then) -> None:
    vars(spec).setdefault(_WAITING, []).append(then)
    cast("Any", spec).__class__ = _Importing
    if not vars(spec)["_initializing"]:
        # Another thread was faster.
        _go_on(spec)


def _go_on(spec: ModuleSpec) -> None:
    waiting: list[Then] = vars(spec).pop(_WAITING, [])
    cast("Any", spec).__class__ = ModuleSpec
    for then in waiting:
        # An import that failed may be tried again.
        when_imported(spec.name, then)
