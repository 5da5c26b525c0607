"""The page of every error code, from the error tree itself."""

from __future__ import annotations

import inspect

from nexus.kernel import errors


def leaves() -> list[type[errors.NexusError]]:
    """Every error of the tree with a code, by code."""
    found = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.NexusError) and each.code]
    return sorted(found, key=lambda each: each.code)


def pages() -> dict[str, str]:
    lines = [
        "# Errors",
        "",
        "Every error has a stable code, a message that says what happened, and a hint with the next action.",
        "This page is generated from `nexus.kernel.errors`.",
        "",
        "| code | name | means | HTTP | exit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in leaves():
        means = (inspect.getdoc(each) or "").split("\n")[0]
        lines.append(f"| {each.code} | `{each.__name__}` | {means} | {each.status} | {each.exit_code} |")
    return {"docs/reference/errors.md": "\n".join(lines) + "\n"}
