"""``nexus settings``: every setting of the service, its value and where that comes from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from nexus.cli import output

COLUMNS = ("name", "value", "origin", "help")


@click.command()
@click.option(
    "--config", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML)."
)
@click.option("--changed", is_flag=True, help="Only those that differ from their default.")
@output.output_option()
def settings(config: Path | None, changed: bool, fmt: str) -> None:
    """Every setting `nexus serve` would have here: its value, and whether a file, the environment or nobody set it.

    Example: NEXUS__PORT=9000 nexus settings --changed
    """
    from nexus.adapters.folder import default_data_folder
    from nexus.app.settings import resolve

    _, origins = resolve(file=str(config) if config else None)
    rows = [
        {
            "name": each.name,
            "value": _plain(each.value) or (str(default_data_folder()) if each.name == "data_dir" else _plain(each.value)),
            "origin": each.origin,
            "help": each.help,
        }
        for each in origins
        if not changed or each.origin != "default"
    ]
    output.emit(rows, fmt, COLUMNS, empty="every setting has its default")


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return list(value) if isinstance(value, tuple) else value
