"""Programs that run with what pip installed, and nothing of this repository (`nox -s ways`)."""

from __future__ import annotations

import os
from pathlib import Path

from fakes import processes

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "ways"
DIST = {wheel.name.partition("-")[0]: wheel for wheel in sorted((ROOT / "dist").glob("*.whl"))}
_FOLDER = Path(os.environ.get("AGENTPULSE_TEST_ENVIRONMENTS", ""))


def run(environment: str, *command: str, **variables: str) -> str:
    """What a command of an environment prints; it ends well, and complains of nothing."""
    folder = _FOLDER / environment / "bin"
    done = processes.run(
        [folder / command[0], *command[1:]],
        cwd=_FOLDER,
        env={"PATH": str(folder), **variables},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
