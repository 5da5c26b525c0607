"""The page of every command, from the commands' own help."""

from __future__ import annotations

import importlib

import click

from nexus.cli.main import COMMANDS


def pages() -> dict[str, str]:
    lines = ["# Commands", "", "Generated from the commands' own help.", ""]
    for name, (module, attribute, _) in COMMANDS.items():
        command = getattr(importlib.import_module(module), attribute)
        lines += _command(command, f"nexus {name}", 2)
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
