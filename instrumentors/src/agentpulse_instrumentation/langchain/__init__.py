"""LangChain and LangGraph, by their callbacks: runs of models, tools, chains, graphs and more.

The handler is registered by LangChain's own way for handlers that nobody passes along
(`register_configure_hook`). While the body of a tool, a node or a lambda runs, its span is made the
current one where both libraries enter the context of that body (`_set_config_context`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from agentpulse_instrumentation._engine.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation._engine.patching import Library, Patches, shield
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation.langchain._handler import make_handler
from agentpulse_instrumentation.langchain._models import continued, until_cancelled
from agentpulse_instrumentation.langchain._runs import Runs

_ENTER = shield("make a run's span current")
_HOOKS = "langchain_core.tracers.context"
_BODIES = "langchain_core.runnables.config"
_NODES = "langgraph._internal._runnable"
_METHODS = {
    "langchain_core.language_models.chat_models": ("BaseChatModel.agenerate", until_cancelled),
    "langchain_core.language_models.llms": ("BaseLLM._agenerate_helper", continued),
}
"""The methods of models of which the callbacks don't report enough."""


class LangChainInstrumentor(LibraryInstrumentor):
    """Records runs of LangChain and LangGraph; a call of a model that its client records, once."""

    library = "langchain"
    supported = "langchain-core >= 1.0.0, < 2"
    defining = _HOOKS
    also: tuple[str, ...] = (_BODIES, *_METHODS)
    companions: tuple[Library, ...] = (Library("langgraph", "langgraph >= 1.0.0, < 2", (_NODES,)),)

    _runs: Runs | None = None

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Registers the handler, or wraps a function or a method of the module."""
        if self._runs is None or self._runs.recording is not recording:
            self._runs = Runs(recording)
        runs = self._runs
        if module.__name__ == _HOOKS:
            # There is no public way to take it out again.
            patches.add(module, "_configure_hooks", lambda: _register(module, runs))
            return
        path, wrap = _METHODS.get(module.__name__, ("_set_config_context", _current_inside))
        patches.replace(module, path, lambda original: wrap(original, runs))


def _register(module: ModuleType, runs: Runs) -> None:
    # A default is what every thread and task sees.
    handler = make_handler(runs)
    variable: ContextVar[object] = ContextVar("agentpulse_handler", default=handler)
    module.register_configure_hook(variable, inheritable=True)


def _current_inside(original: Callable[..., Any], runs: Runs) -> Callable[..., Any]:
    @functools.wraps(original)
    def _set_config_context(*args: Any, **kwargs: Any) -> Any:
        # Both libraries call this inside a copy of the caller's context, made for one body.
        token = original(*args, **kwargs)
        with _ENTER:
            config = args[0] if args else kwargs["config"]
            runs.enter_body(getattr(config.get("callbacks"), "parent_run_id", None))
        return token

    return _set_config_context
