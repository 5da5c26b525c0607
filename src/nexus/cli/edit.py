"""What `nexus new`, `rename` and `remove` share: show the plan, ask, check, carry out. No command of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output, registry

if TYPE_CHECKING:
    from nexus.catalog.editing import Plan
    from nexus.catalog.snapshot import Snapshot


def options(command: Any) -> Any:
    """``--dry-run``, ``--yes`` and ``--root``."""
    command = click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")(command)
    command = click.option("-y", "--yes", is_flag=True, help="Do it without asking.")(command)
    return registry.root_option(command)


def carry_out(root: Path, found: Snapshot, plan: Plan, *, yes: bool, dry_run: bool) -> None:
    """Prints the plan on stdout, refuses what would break the registry, asks when there is a person, and applies it."""
    from nexus.adapters import edits
    from nexus.catalog import editing
    from nexus.kernel.errors import RegistryEditRefused

    added = editing.refuse(found, plan, registry.today())
    for step in plan.steps:
        sys.stdout.write(step.text() + "\n")
    for finding in added:
        output.note(finding.text())
    if dry_run:
        output.note("nothing was written (--dry-run)")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise RegistryEditRefused("nobody is there to agree to this plan", hint="nothing was written; agree with `--yes`")
        if not click.confirm("Do this?", err=True):
            output.note("nothing was written")
            raise click.exceptions.Exit(1)
    edits.apply(root, plan)
    output.note("done")
    for note in plan.notes:
        output.note(note)


def ask(value: str | None, question: str, flag: str, *, refuse: Callable[[str], str], optional: bool = False) -> str:
    """The value of a flag, or what the person answers; asked again until it is of the right form.

    Raises MissingAnswer (exit 2) when there is no person to ask.
    """
    if value is not None:
        return value
    if not sys.stdin.isatty():
        if optional:
            return ""
        raise click.UsageError(f"Missing option '{flag}' (there is no terminal to ask on).")
    while True:
        answer = str(click.prompt(question, default="" if optional else None, show_default=False, err=True)).strip()
        reason = refuse(answer) if answer or not optional else ""
        if not reason:
            return answer
        output.note(reason)
