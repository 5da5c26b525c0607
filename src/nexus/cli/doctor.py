"""``nexus doctor``: what this machine offers the service, and what is missing."""

from __future__ import annotations

import sys

import click

from nexus.cli import output
from nexus.cli.connection import Service, service_options

COLUMNS = ("check", "status", "detail", "what_to_do")


@click.command()
@click.option("--data-dir", metavar="FOLDER", help="Data folder to look at.  [default: NEXUS__DATA_DIR, else the platform's]")
@output.output_option()
@service_options
def doctor(data_dir: str | None, fmt: str, service: Service) -> None:
    """Look at this machine: what the service needs, what it has, what to do. The exit code is 1 when something is missing.

    Example: nexus doctor --data-dir /srv/nexus
    """
    from pathlib import Path

    from nexus.app.settings import resolve
    from nexus.cli import doctor_checks

    settings, _ = resolve({"data_dir": data_dir})
    if settings.data_dir:
        folder = Path(settings.data_dir)
    else:
        from nexus.adapters.folder import default_data_folder

        folder = default_data_folder()
    found = doctor_checks.examine(folder, settings.host, settings.port, service)
    output.emit([each.row() for each in found], fmt, COLUMNS)
    sys.exit(1 if any(each.status == "missing" for each in found) else 0)
