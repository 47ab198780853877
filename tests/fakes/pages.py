"""The documentation: its pages, and the blocks of code on them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / folder / "README.md" for folder in (".", "exporters", "instrumentors")),
    *sorted((ROOT / "docs").glob("*.md")),
)
VENDORS = {"logfire", "sentry_sdk"}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code, and where it is."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, those that are continued as one."""
        return self.text.replace("\\\n", " ").splitlines()

    @property
    def imports(self) -> Iterator[tuple[str, str | None]]:
        """The modules that a Python block imports, and of each the names."""
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((str(node.module), alias.name) for alias in node.names)

    @property
    def needs_a_vendor(self) -> bool:
        """Whether it imports a package that the tests don't have."""
        return any(module.partition(".")[0] in VENDORS for module, _ in self.imports)


def blocks(*languages: str) -> list[Block]:
    """All blocks in one of these languages."""
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for page in PAGES
        for text in (page.read_text(encoding="utf-8"),)
        for found in _BLOCK.finditer(text)
        if found[1] in languages
    ]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))
