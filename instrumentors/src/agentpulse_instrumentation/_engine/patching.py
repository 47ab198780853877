"""The patches of a library: all of them are on, or none; and the shield around our code in them.

A name that moved costs the one library that it was in. What was patched of that library until then
is put back, and `Patches.problem` has the name.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import PackageNotFoundError, version
from os.path import join
from traceback import walk_tb
from types import FunctionType, ModuleType, TracebackType
from typing import Any, TypeVar, cast

import wrapt
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

# Everything that we do around a user's call runs inside `with shield(step)`: the call, its answer
# and its exceptions pass by.

_T = TypeVar("_T")
_logger = logging.getLogger("agentpulse.instrumentation")
strict = False
"""For tests: a failure that a user would never see fails the test that caused it."""


class shield:  # noqa: N801  # it is used like a keyword: `with shield(...)`
    """Stops what our own code raises, and logs at debug level which step that broke.

    Only `Exception`: Ctrl-C and exits are not ours. An instance holds no state of a call, so those
    on a hot path are made once, at import.
    """

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if kind is None or strict or not issubclass(kind, Exception):
            return False
        # The message may hold content (a KeyError's key, a ValueError's text), so only the type is
        # logged, and where it was raised.
        *_, (frame, _line) = walk_tb(trace)
        where = frame.f_code.co_qualname
        _logger.debug("AgentPulse could not %s: %s in %s", self._step, kind.__name__, where)
        return True

    def told(self, tell: Callable[[], _T], otherwise: _T) -> _T:
        """What a function says; `otherwise` if it raises."""
        with self:
            return tell()
        return otherwise


@functools.cache
def warn_once(text: str) -> None:
    """Logs a warning, once in a process."""
    _logger.warning("%s", text)


_UNDO = shield("take a patch back")
_UNKNOWN = "an unknown version"


@dataclass(frozen=True, slots=True)
class Library:
    """A package that is patched as a whole, or not at all."""

    name: str
    supported: str
    """The package and the versions that are tested, as a requirement."""
    modules: tuple[str, ...]
    """Those that are patched, each when it is imported."""

    @property
    def package(self) -> str:
        """What is installed, by its name in a registry of packages."""
        return Requirement(self.supported).name

    @property
    def specifier(self) -> str:
        """The supported versions alone, such as `<2,>=1.0.0`."""
        return str(Requirement(self.supported).specifier)

    def installed(self) -> str | None:
        """The version that is installed, without importing it; None where none is known."""
        try:
            return version(self.package) or _UNKNOWN
        except PackageNotFoundError:
            return None
        except Exception:  # noqa: BLE001  # whatever reading a damaged installation raises
            return _UNKNOWN

    def supports(self, installed: str) -> bool:
        """Whether a version is among those that are tested, or is none that can be compared."""
        found, supported = _parsed(installed), Requirement(self.supported).specifier
        return found is None or supported.contains(found, prereleases=True)


class _UnfitError(Exception):
    """Something of the library, which has the name, isn't what it was."""


class Patches:
    """The patches of one library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._on: list[Callable[[], None]] = []
        """What takes each patch back that is on, oldest first."""
        self._failures: list[str] = []
        self._modules: dict[str, object] = {}

    def __bool__(self) -> bool:
        return bool(self._on)

    @property
    def problem(self) -> str | None:
        """Why the library can't be patched as a whole; None where all went well so far."""
        if not self._failures:
            return None
        done = len(self._on)
        text = f"{done} of {done + len(self._failures)} patches could be put on"
        return f"{text}{' and were taken back' if done else ''}, because {self._failures[0]}"

    def put_on(self, module: ModuleType, patch: Callable[[], None]) -> str | None:
        """Patches a module, once; returns what kept it from being patched as a whole."""
        this = object()
        if self._modules.setdefault(module.__name__, this) is this:
            with self._attempt(module.__name__):
                patch()
        return self.problem

    def add(self, module: ModuleType, name: str, register: Callable[[], object]) -> None:
        """Has the library itself put something into that list of its own."""
        known = f"{module.__name__}.{name}"
        with self._attempt(known):
            listed = _attribute(module, name, known)
            if not isinstance(cast("object", listed), list):
                raise _UnfitError(known, "is no list")
            before = {*map(id, listed)}
            register()
            added = [item for item in listed if id(item) not in before]
            self._on.append(functools.partial(_take_out, listed, added))

    def replace(
        self, module: ModuleType, path: str, make: Callable[[Any], Any], *, since: str | None = None
    ) -> None:
        """Replaces a function, or the method of a class, by what `make` makes of it.

        Args:
            module: Where it is.
            path: Its name there, such as `request` or `Client.request`.
            make: Given the function, which takes the instance first where it is a method.
            since: The version in which it came; before that, it is replaced where it is there.
        """
        with self._attempt(f"{module.__name__}.{path}"):
            owner: Any = module
            class_name, _, name = path.rpartition(".")
            if class_name:
                owner, known = getattr(module, class_name, None), f"{module.__name__}.{class_name}"
                if not isinstance(owner, type):
                    raise _UnfitError(known, "is missing" if owner is None else "is no class")
            if since is not None and name not in vars(owner) and not self._is_from(since):
                return
            known = f"{module.__name__}.{path}"
            original = _attribute(owner, name, known)
            replacement = make(_method(original) if class_name else original)
            _verify_kind(original, replacement, known)
            setattr(owner, name, replacement)
            self._on.append(functools.partial(_put_back, owner, name, original, replacement))

    def undo(self) -> None:
        """Puts the originals back, newest first; what somebody else replaced since is theirs."""
        while self._on:
            take_back = self._on.pop()
            with _UNDO:
                take_back()

    def _is_from(self, since: str) -> bool:
        found = _parsed(self._library.installed() or _UNKNOWN)
        return found is not None and found >= Version(since)

    @contextmanager
    def _attempt(self, name: str) -> Generator[None]:
        """Notes what goes wrong, and goes on: what can't be patched is named as far as known."""
        try:
            yield
        except _UnfitError as error:
            self._failures.append(" ".join(error.args))
        except Exception as error:  # noqa: BLE001  # whatever a library that changed raises
            self._failures.append(f"{name} can't be patched ({type(error).__name__}: {error})")


def _parsed(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _attribute(owner: Any, name: str, known: str) -> Any:
    """What stands in the owner itself by that name, unbound."""
    if name not in vars(owner):
        raise _UnfitError(known, "is missing")
    return cast("Any", vars(owner)[name])


def _verify_kind(original: Any, replacement: Any, name: str) -> None:
    """Fails where the replacement would be called in another way than the original was."""
    if isinstance(original, staticmethod | classmethod | type) or not callable(original):
        raise _UnfitError(name, "is no function")
    # Decorators of async functions are often sync, so the innermost function counts too. A callable
    # that is no function may be anything.
    innermost = inspect.unwrap(original)
    is_async = inspect.iscoroutinefunction(replacement)
    if isinstance(innermost, FunctionType) and not any(
        inspect.iscoroutinefunction(each) is is_async for each in (innermost, original)
    ):
        raise _UnfitError(name, "is not async any more" if is_async else "is async now")


def _put_back(owner: Any, name: str, original: Any, replacement: Any) -> None:
    if name in vars(owner) and vars(owner)[name] is replacement:
        setattr(owner, name, original)


def _take_out(listed: list[object], added: list[object]) -> None:
    listed[:] = [item for item in listed if not any(item is each for each in added)]


def _method(original: Any) -> Callable[..., Any]:
    """What is called with the instance first, whatever stands in the class.

    Somebody else's wrapper may learn the instance only where it is bound.
    """
    if type(original) is FunctionType:
        return original

    @functools.wraps(original)
    def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
        # What can't be bound gets no instance either.
        bind = getattr(original, "__get__", None)
        bound = original if bind is None else bind(instance, type(instance))
        return bound(*args, **kwargs)

    @functools.wraps(original)
    async def acall(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return await original.__get__(instance, type(instance))(*args, **kwargs)

    return acall if inspect.iscoroutinefunction(original) else call


# Waits for modules: nothing is imported for the user.

Then = Callable[[ModuleType], object]
_RUNNING, _WAITING = "_initializing", "_agentpulse_waiting"
"""Of the spec of a module: whether its code is still run (import's own), and who waits for that."""


def when_imported(name: str, then: Then) -> None:
    """Calls `then` with the module when it has been imported, now if it has been already.

    This can't be taken back, so `then` asks whether it is still wanted. What it raises would fail
    the user's import.
    """
    module: Any = sys.modules.get(name)
    if module is None:
        # wrapt has no types for it.
        wrapt.register_post_import_hook(then, name)  # pyright: ignore[reportUnknownMemberType]
    elif not is_imported(name) and type(spec := module.__spec__) in {ModuleSpec, _Importing}:
        spec.__dict__.setdefault(_WAITING, []).append(then)
        spec.__class__ = _Importing
        if not getattr(spec, _RUNNING):
            # Another thread was faster.
            setattr(spec, _RUNNING, False)
    else:
        then(module)


def is_imported(name: str) -> bool:
    """Whether the module has been run: one that is being imported lacks some of its names."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, _RUNNING, False)


def is_missing(name: str) -> bool:
    """Whether the module's package is installed and has no such module; imports nothing.

    False where that can't be known: only packages of plain files are looked through.
    """
    if name in sys.modules or not isinstance(__loader__, SourceFileLoader):
        # Where this module is in an archive or compiled, so may be others, in ways of their own.
        return False
    package, _, inside = name.partition(".")
    *between, last = inside.split(".")
    spec = PathFinder.find_spec(package)
    folders = (spec and inside and spec.submodule_search_locations) or ()
    paths = [join(folder, *between) for folder in folders]  # noqa: PTH118  # pathlib changes it
    return bool(paths) and PathFinder.find_spec(last, paths) is None


class _Importing(ModuleSpec):
    """The spec of a module that is being imported: when that is over, the import notes it here.

    An import hook would come too late, for the loader is at work.
    """

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == _RUNNING and not value:
            waiting: list[Then] = vars(self).pop(_WAITING, [])
            cast("Any", self).__class__ = ModuleSpec
            for then in waiting:
                # An import that failed may be tried again.
                when_imported(self.name, then)
