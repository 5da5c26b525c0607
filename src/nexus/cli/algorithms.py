"""``nexus algorithms``: what the service can run."""

from __future__ import annotations

import json
from typing import Any

import click

from nexus.cli import output
from nexus.cli.connection import Service, service_options

COLUMNS = ("name", "revision", "workgroup", "source", "description")


@click.group(no_args_is_help=True)
def algorithms() -> None:
    """What can be run: list, show.

    Example: nexus algorithms list
    """


@algorithms.command(name="list")
@output.output_option()
@service_options
def list_(fmt: str, service: Service) -> None:
    """List the registered algorithms.

    Example: nexus algorithms list -o json
    """
    import msgspec

    with service.connect() as nexus:
        templates = nexus.algorithms()
    empty = "no algorithms; `nexus apply -f FILE` registers them"
    output.emit([msgspec.to_builtins(template) for template in templates], fmt, COLUMNS, empty=empty)


@algorithms.command()
@click.argument("name")
@output.output_option()
@service_options
def show(name: str, fmt: str, service: Service) -> None:
    """One algorithm with its configuration.

    Example: nexus algorithms show solve -o yaml
    """
    import msgspec

    with service.connect() as nexus:
        template = nexus.algorithm(name)
    record: dict[str, Any] = msgspec.to_builtins(template)
    if fmt in ("table", "csv"):
        for part in ("configuration", "annotations"):
            record.update(_flat(record.pop(part, {})))
    output.emit_one(record, fmt)


def _flat(value: Any, at: str = "") -> dict[str, str]:
    """Leaves of nested objects by their dotted path: one line each in a table."""
    if isinstance(value, dict):
        return {key: text for name, item in value.items() for key, text in _flat(item, f"{at}.{name}" if at else name).items()}
    return {at: value if isinstance(value, str) else json.dumps(value)} if value not in (None, [], "") else {}
