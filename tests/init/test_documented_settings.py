"""The tables of settings in both READMEs are those that the code goes by."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from agentpulse_exporter import settings as exporter_settings

from agentpulse import settings as sdk_settings

README = Path(__file__).parents[2] / "README.md"
HEAD = "| argument | environment | default | |"


IN_WORDS = {"agent_name": "host name", "instrument": "all"}
"""The defaults that aren't clear by themselves."""
OF_EXPORTER = Path(__file__).parents[2] / "exporters" / "README.md"


def documented_rows(page: Path = README) -> list[tuple[str, ...]]:
    """The rows of the README's table, without the marks of code around a cell."""
    lines = page.read_text(encoding="utf-8").splitlines()
    _, *rows = takewhile(lambda line: line.startswith("|"), lines[lines.index(HEAD) + 1 :])
    return [tuple(cell(text) for text in row.strip("| ").split(" | ")) for row in rows]


def cell(text: str) -> str:
    is_code = text.startswith("`") and text.endswith("`") and text.count("`") == 2
    return text.strip("`") if is_code else text


def sentences(*modules: Any) -> dict[str, str]:
    """The docstrings of the settings, by name; those of a later module win."""
    found: dict[str, str] = {}
    for module in modules:
        for table in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(table, ast.ClassDef) and table.name == "Settings":
                for field, text in pairwise(table.body):
                    if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                        found[ast.unparse(field.target)] = " ".join(
                            ast.literal_eval(text.value).split()
                        )
    return found


def rows(*modules: Any) -> list[tuple[str, ...]]:
    """Argument, environment variable, default and sentence of each setting of the last module."""
    table = modules[-1]
    defaults = {each.name: each.default for each in fields(table.Settings)}
    texts = sentences(*modules)
    return [
        (name, row.environment or "none", IN_WORDS.get(name, in_words(defaults[name])), texts[name])
        for name, row in table.ROWS.items()
    ]


def in_words(default: object) -> str:
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_readme_documents_every_setting_as_it_is():
    assert documented_rows() == rows(exporter_settings, sdk_settings)


def test_the_readme_of_the_exporter_documents_every_setting_of_it():
    assert documented_rows(OF_EXPORTER) == rows(exporter_settings)
