"""The page of every command, from the commands' own help."""

from __future__ import annotations

import click

from nexus.cli.main import COMMANDS, load


def pages() -> dict[str, str]:
    lines = ["# Commands", "", "Generated from the commands' own help.", ""]
    for name in COMMANDS:
        lines += _command(load(name), f"nexus {name}", 2)
    return {"docs/reference/cli.md": "\n".join(lines).rstrip() + "\n"}


def _command(command: click.Command, path: str, level: int) -> list[str]:
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    lines = [f"{'#' * level} `{path}`", "", "```text", command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                lines += _command(child, f"{path} {name}", level + 1)
    return lines
