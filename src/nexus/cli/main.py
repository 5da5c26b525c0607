"""Entry point of ``nexus``: finds the command and imports only that one.

Registry commands are verb-noun (``nexus list packages``), service commands noun-verb (``nexus runs list``). A command is a
row of :data:`COMMANDS`; its module is imported when it is run. ``--version`` and ``--help`` are answered before anything is
imported: click alone costs more than the rest of the start.

Exit codes: 0 done · 1 the answer is no, or it failed · 2 the input was wrong · 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_UNWRITABLE = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF})

# name → (module, attribute, one line of help), in the order `nexus --help` shows them
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("nexus.cli.serve", "serve", "Start the service."),
    "apply": ("nexus.cli.apply", "apply", "Register algorithms and workgroups from manifests."),
    "algorithms": ("nexus.cli.algorithms", "algorithms", "What can be run: list, show."),
    "runs": ("nexus.cli.runs", "runs", "Runs: submit, list, show, wait, tree, logs, result, cancel."),
    "tokens": ("nexus.cli.tokens", "tokens", "Access tokens: create, list, revoke."),
    "settings": ("nexus.cli.settings", "settings", "Every setting, its value and where it comes from."),
    "doctor": ("nexus.cli.doctor", "doctor", "What this machine offers, and what is missing."),
    "validate": ("nexus.cli.validate", "validate", "Check a package or a whole registry."),
    "list": ("nexus.cli.listing", "list_", "List packages, models or owners of a registry."),
    "get": ("nexus.cli.get", "get", "One package or model of a registry, as it is written."),
    "show": ("nexus.cli.show", "show", "Everything about one package: owners, models, variants, findings, audit."),
    "new": ("nexus.cli.new", "new", "Start a package or a model that is valid from the beginning."),
    "rename": ("nexus.cli.rename", "rename", "Rename a package or a model of a registry."),
    "remove": ("nexus.cli.remove", "remove", "Remove a package or a model from a registry."),
    "variants": ("nexus.cli.variants", "variants", "Dependency variants: resolve, check, diff, why, matrix, explain."),
    "advisories": ("nexus.cli.advisories", "advisories", "Advisory snapshots: import, update, show."),
    "audit": ("nexus.cli.audit", "audit", "Locked versions against known vulnerabilities."),
}


_LONGEST_SHORT = 58  # beside the name of a command, on eighty columns


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _answered(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a failure can still be told
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        return _unwritable(error)
    return code


def _answered(arguments: list[str]) -> int:
    _open_what_is_closed()
    if arguments in (["--version"], ["-V"]):
        import nexus

        sys.stdout.write(f"nexus {nexus.__version__}\n")
        return 0
    if not arguments or arguments in (["--help"], ["-h"], ["help"]):
        sys.stdout.write(overview())
        return 0 if arguments else 2
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _interrupted()


def overview() -> str:
    """What ``nexus --help`` prints."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "Usage: nexus COMMAND [OPTIONS]",
            "",
            "  Bring algorithms, prove them, and let others run them at scale.",
            "",
            "Commands:",
            *(f"  {name.ljust(width)}  {help_}" for name, (_, _, help_) in COMMANDS.items()),
            "",
            "`nexus COMMAND --help` shows a command with an example; `nexus --version` the version.",
            "",
        ]
    )


def _run(arguments: list[str]) -> int:
    import click

    from nexus.kernel.errors import NexusError

    try:
        code = _group().main(args=arguments, prog_name="nexus", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.Abort:
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except NexusError as error:
        from nexus.kernel.documents import printable

        sys.stderr.write(printable(error.text(), keep="\n\t") + "\n")  # words of others are shown, not obeyed
        return error.exit_code
    return code if isinstance(code, int) else 0  # what `ctx.exit` was given


def _open_what_is_closed() -> None:
    """Puts the null device where the caller closed a standard stream (`<&-`): the next file opened would take its place, and
    words for stderr would land in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # programs that are started need them as much
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _unwritable(error: OSError) -> int:
    """Says that the output cannot be written; a reader that has read enough (`| head`) need not be told."""
    if error.errno != errno.EPIPE:
        sys.stderr.write(f"error: the output cannot be written: {error.strerror}\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered must not fail again at the exit
    return 1


def _interrupted() -> int:
    sys.stderr.write("interrupted\n")
    return 130


def load(name: str) -> click.Command:
    """The command of this name, its help in whole lines: examples are there to be copied, lists of commands to be read."""
    import importlib

    import click

    module, attribute, _ = COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    _keep_lines(command)
    return command


def _keep_lines(command: click.Command) -> None:
    import inspect

    text = inspect.cleandoc(command.help or "")
    command.help = text.replace("\n\nExample: ", "\n\n\b\nExample: ")  # click wraps no paragraph after this mark
    sentence = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
    for mark in (":", ";", " (", ", "):
        if len(sentence) > _LONGEST_SHORT:
            sentence = sentence.partition(mark)[0]
    command.short_help = f"{sentence}."
    for child in getattr(command, "commands", {}).values():
        _keep_lines(child)


def _no_command(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, n=1)
    return f"No such command '{name}'." + (f" Did you mean '{close[0]}'?" if close else "")


def _group() -> click.Group:
    import click

    class Lazy(click.Group):
        """A group that knows its commands' names and help, and imports a command when it is asked for."""

        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(COMMANDS)

        def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
            return load(name) if name in COMMANDS else None

        def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
            if args[0] not in COMMANDS and not args[0].startswith("-"):
                ctx.fail(_no_command(args[0]))  # click itself knows only the commands it holds
            return super().resolve_command(ctx, args)

    return Lazy(name="nexus", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
