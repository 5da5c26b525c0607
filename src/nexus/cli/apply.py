"""``nexus apply``: register algorithms and workgroups from manifests. The service judges them, all or nothing."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli import output
from nexus.cli.connection import Service, service_options

COLUMNS = ("kind", "name", "revision", "change")


@click.command()
@click.option("-f", "--file", "paths", multiple=True, required=True, type=click.Path(exists=True, path_type=Path),
              help="Manifest, or a folder with all below it (again for more).")  # fmt: skip
@click.option("--prune", is_flag=True, help="Remove what was registered before and is in none of these files.")
@output.output_option()
@service_options
def apply(paths: tuple[Path, ...], prune: bool, fmt: str, service: Service) -> None:
    """Register algorithms and workgroups. Applying the same files again changes nothing.

    Example: nexus apply -f algorithms/
    """
    import msgspec

    with service.connect() as nexus:
        applied = nexus.apply(paths, prune=prune)
    for warning in applied.warnings:
        output.note(warning.text())
    output.emit([msgspec.structs.asdict(each) for each in applied.applied], fmt, COLUMNS, empty="nothing to register")
