"""``nexus rename``: a package or a model, wherever it is named. The plan is printed, checked, then applied whole."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli import edit, registry


@click.group(name="rename")
def rename() -> None:
    """Rename a package or a model of a registry.

    Example: nexus rename package old-name new-name --dry-run
    """


@rename.command()
@click.argument("old")
@click.argument("new")
@edit.options
def package(old: str, new: str, root: Path, yes: bool, dry_run: bool) -> None:
    """Rename a package: its folder, its manifest, its requirement in every extra, paths that point into it.

    Example: nexus rename package old-name new-name --yes
    """
    from nexus.catalog import editing

    place, found = registry.load(root, to_edit=not dry_run)
    edit.carry_out(place, found, editing.rename_package(found, old, new), yes=yes, dry_run=dry_run)


@rename.command()
@click.argument("name")
@click.argument("folder", required=False, default="")
@click.option("--id", "id_", default="", metavar="ORG/MODEL", help="The new Hugging Face repository.")
@edit.options
def model(name: str, folder: str, id_: str, root: Path, yes: bool, dry_run: bool) -> None:
    """Rename a model's folder, its Hugging Face id, or both.

    Example: nexus rename model example-org/old-model new-folder --id example-org/new-model --yes
    """
    from nexus.catalog import editing

    place, found = registry.load(root, to_edit=not dry_run)
    edit.carry_out(place, found, editing.rename_model(found, name, folder, id_), yes=yes, dry_run=dry_run)
