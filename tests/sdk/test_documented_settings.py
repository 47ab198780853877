"""The README's table of settings is the one that the SDK goes by."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from agentpulse.settings import documentation_rows

README = Path(__file__).parents[2] / "README.md"
HEAD = "| argument | environment | default | |"


def documented_rows() -> list[tuple[str, ...]]:
    """The rows of the README's table, without the marks of code around a cell."""
    lines = README.read_text(encoding="utf-8").splitlines()
    _, *rows = takewhile(lambda line: line.startswith("|"), lines[lines.index(HEAD) + 1 :])
    return [tuple(cell(text) for text in row.strip("| ").split(" | ")) for row in rows]


def cell(text: str) -> str:
    is_code = text.startswith("`") and text.endswith("`") and text.count("`") == 2
    return text.strip("`") if is_code else text


def test_the_readme_documents_every_setting_as_it_is():
    assert documented_rows() == documentation_rows()
