"""``nexus remove``: a package or a model. The plan is printed, checked, then applied whole."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli import edit, registry


@click.group(name="remove")
def remove() -> None:
    """Remove a package or a model from a registry.

    Example: nexus remove model example-org/old-model --dry-run
    """


@remove.command()
@click.argument("name")
@edit.options
def package(name: str, root: Path, yes: bool, dry_run: bool) -> None:
    """Remove a package: its folder, its requirement in every extra, waivers of its files.

    Example: nexus remove package old-name --yes
    """
    from nexus.catalog import editing

    place, found = registry.load(root, to_edit=not dry_run)
    edit.carry_out(place, found, editing.remove_package(found, name), yes=yes, dry_run=dry_run)


@remove.command()
@click.argument("name")
@edit.options
def model(name: str, root: Path, yes: bool, dry_run: bool) -> None:
    """Remove a model: its folder, waivers of its files.

    Example: nexus remove model example-org/old-model --yes
    """
    from nexus.catalog import editing

    place, found = registry.load(root, to_edit=not dry_run)
    edit.carry_out(place, found, editing.remove_model(found, name), yes=yes, dry_run=dry_run)
