"""The conformance page: each fact and weakness of the specification with the tests that show it.

A row of ``docs/reference/conformance.toml`` names a fact and its tests; this module refuses rows whose tests do not exist.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs/reference/conformance.toml"


def pages() -> dict[str, str]:
    """The page. Raises SystemExit naming every row whose test is not there."""
    sections = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["section"]
    missing: list[str] = []
    lines = [
        "# Conformance",
        "",
        "Each fact and weakness of the specification, and the test that shows it here. Generated from `conformance.toml`;",
        "`make check` fails when a test named here does not exist.",
        "",
    ]
    for section in sections:
        lines += [f"## {section['title']}", "", "| no. | must hold | shown by |", "| --- | --- | --- |"]
        for row in section["rows"]:
            missing += [f"{section['title']} {row['id']}: {test}" for test in row["tests"] if not _exists(test)]
            shown = "<br>".join(f"`{test}`" for test in row["tests"]) or row.get("open", "**open**")
            lines.append(f"| {row['id']} | {row['fact']} | {shown} |")
        lines.append("")
    if missing:
        raise SystemExit("conformance.toml names tests that do not exist:\n  " + "\n  ".join(missing))
    return {"docs/reference/conformance.md": "\n".join(lines).rstrip() + "\n"}


def _exists(test: str) -> bool:
    """Whether ``path::name`` (or ``path::Class::name``) is a test in the tree."""
    path, *names = test.split("::")
    file = ROOT / path
    if not file.is_file() or not names:
        return False
    defined = {
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    return all(name in defined for name in names)
