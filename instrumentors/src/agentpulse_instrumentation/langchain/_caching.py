"""Whether a model was asked, or a cache: LangChain tells of either in the same way."""

from __future__ import annotations

import sys
from typing import Any

from agentpulse_instrumentation._engine.operation import get, text
from agentpulse_instrumentation.langchain import _answers as answers
from agentpulse_instrumentation.langchain._runs import Runs

_GLOBALS = "langchain_core.globals"
_OWN_IDS = ("run-", "lc_run-")
"""How the ids begin that LangChain gives to messages without one; its run's id follows."""


def answered(runs: Runs, run_id: Any, response: Any) -> bool:
    """Whether a model that has a cache was answered by that.

    Later versions mark a cached answer by a cost of 0. In earlier ones, it is the message of an
    earlier run.
    """
    if answers.is_from_cache(response):
        return True
    ids = {text(get(get(each, "message"), "id")) for each in answers.generations(response)}
    given = {each for each in ids if each is not None}
    if any(each.startswith(_OWN_IDS) for each in given):
        return not any(str(run_id) in each for each in given)
    if given and all(each in runs.answered for each in given):
        return True
    for each in given:
        runs.answered.add(each)
    return False


def has_cache(model: Any) -> bool:
    """Whether a cache may answer in place of the model: its own, or that of the program."""
    own = getattr(model, "cache", None)
    if own is None or own is True:
        return sys.modules[_GLOBALS].get_llm_cache() is not None
    return own is not False
