"""The tables of settings in both READMEs are those that the code goes by."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from agentpulse_exporter.settings import documentation_rows

from agentpulse.settings import Settings

README = Path(__file__).parents[2] / "README.md"
HEAD = "| argument | environment | default | |"


OF_EXPORTER = Path(__file__).parents[2] / "exporters" / "README.md"


def documented_rows(page: Path = README) -> list[tuple[str, ...]]:
    """The rows of the README's table, without the marks of code around a cell."""
    lines = page.read_text(encoding="utf-8").splitlines()
    _, *rows = takewhile(lambda line: line.startswith("|"), lines[lines.index(HEAD) + 1 :])
    return [tuple(cell(text) for text in row.strip("| ").split(" | ")) for row in rows]


def cell(text: str) -> str:
    is_code = text.startswith("`") and text.endswith("`") and text.count("`") == 2
    return text.strip("`") if is_code else text


def test_the_readme_documents_every_setting_as_it_is():
    assert documented_rows() == documentation_rows(Settings)


def test_the_readme_of_the_exporter_documents_every_setting_of_it():
    assert documented_rows(OF_EXPORTER) == documentation_rows()
