"""A pytest plugin: with `--dist=loadgroup`, tests with the same first parameter share a worker.

They share what a program printed, which is run once in each process of pytest. The groups that
pytest-xdist makes by marks get lost in newer versions of pytest.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByFirstParameter(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        function, bracket, parameters = nodeid.partition("[")
        return parameters.rstrip("]").partition("-")[0] if bracket else function


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFirstParameter | None:
    return ByFirstParameter(config, log) if config.getvalue("dist") == "loadgroup" else None
