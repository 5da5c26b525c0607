"""The help of every command: an example that can be copied, and lines that are whole."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from nexus.cli.main import COMMANDS, load, main


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """The command and all below it, by the words that call it."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


EVERY = [pair for name in COMMANDS for pair in commands(load(name), name)]


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[path for path, _ in EVERY])
def test_the_example_is_one_line(path: str, command: click.Command) -> None:
    """On a terminal of eighty columns the example is printed as it is typed."""
    text = command.get_help(click.Context(command, info_name=f"nexus {path}", terminal_width=80))
    examples = [line for line in text.splitlines() if line.strip().startswith("Example: ")]
    assert len(examples) == 1
    source = f"{command.help}\n{command.epilog}"
    assert examples[0].strip() in {line.strip() for line in source.splitlines()}


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[path for path, _ in EVERY])
def test_a_group_shows_whole_sentences(path: str, command: click.Command) -> None:
    """What a group says of its commands is not cut off."""
    text = command.get_help(click.Context(command, info_name=f"nexus {path}", terminal_width=80))
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize(("typed", "meant"), [("run", "runs"), ("aply", "apply"), ("qqq", "")])
def test_a_misspelt_command_is_told_the_nearest(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At the top as within a group; nothing is suggested where nothing is near."""
    assert main([typed, "list"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"Error: No such command '{typed}'." + (f" Did you mean '{meant}'?" if meant else "")
