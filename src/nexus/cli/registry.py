"""What the commands of a registry share: finding it, reading it, printing findings. No command of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output

if TYPE_CHECKING:
    from nexus.catalog.checks import Report
    from nexus.catalog.snapshot import Package, Snapshot

FINDING_FORMATS = ("table", "json", "yaml", "csv", "sarif", "github")


def root_argument(command: Any) -> Any:
    """The optional ``ROOT`` argument: a registry's folder, or any folder inside one."""
    return click.argument("root", type=click.Path(path_type=Path), default=".")(command)


def root_option(command: Any) -> Any:
    """``--root`` for commands whose arguments are names."""
    return click.option("--root", type=click.Path(path_type=Path), default=".", help="The registry.  [default: here]")(command)


def output_file_option(command: Any) -> Any:
    """``--output-file``: data goes to this file instead of stdout."""
    return click.option(
        "--output-file", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, not to stdout."
    )(command)


def today() -> date:
    """The day on which waivers are judged."""
    from nexus.kernel.clock import SystemClock

    return SystemClock().now().date()


@contextmanager
def without_collector() -> Iterator[None]:
    """No search for garbage meanwhile: reading a large registry makes many values and no garbage (a fifth of its time)."""
    import gc

    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load(start: Path, *, to_edit: bool = False) -> tuple[Path, Snapshot]:
    """The registry that *start* is, or is in; *to_edit*: an interrupted edit is undone before it is read. Raises NotARegistry."""
    from nexus.adapters import checkout
    from nexus.catalog import snapshot

    root = checkout.find_root(start)
    tell_edit(root, undo=to_edit)
    with without_collector():
        return root, snapshot.build(checkout.read_folder(root))


def tell_edit(root: Path, *, undo: bool = False) -> None:
    """Says on stderr that an edit of the registry goes on, or was interrupted; with *undo*, undoes the latter."""
    from nexus.catalog import files

    if not (root / files.EDIT).exists():
        return
    from nexus.adapters import edits

    if undo and edits.settle(root):
        output.note("an edit of this registry was interrupted; it was undone first")
    elif told := edits.state(root):
        output.note(told)


def find_package(registry: Snapshot, name: str) -> Package:
    """The package of this name. Raises UnknownName with the closest one."""
    from nexus.catalog import rulebook
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import UnknownName

    package = registry.package(name)
    if package is None:
        close = rulebook.suggestion(name, [one.folder for one in registry.packages])
        hint = f"did you mean `{close}`?" if close else "`nexus list packages` shows them"
        raise UnknownName(f"the registry has no package {shown(name)}", hint=hint)
    return package


def find_model(registry: Snapshot, name: str) -> Any:
    """The package and model of this id, or ``package/folder``. Raises UnknownName with the closest one."""
    from nexus.catalog import rulebook
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import UnknownName

    found = registry.model(name)
    if found is None:
        known = [word for package, model in registry.models() for word in (model.id, f"{package.folder}/{model.folder}") if word]
        close = rulebook.suggestion(name, known)
        hint = f"did you mean `{close}`?" if close else "`nexus list models` shows them"
        raise UnknownName(f"the registry has no model {shown(name)}", hint=hint)
    return found


def write(text: str, file: Path | None) -> None:
    """Prints data, or writes it to a file whole."""
    if file is None:
        sys.stdout.write(text)
        return
    from nexus.adapters import edits

    edits.write_file(file, text)
    output.note(f"wrote {file}")


def print_report(report: Report, fmt: str, root: Path, what: str) -> None:
    """Findings on stdout in this form, the summary on stderr."""
    sys.stdout.write(render_report(report, fmt, root))
    output.note(f"{what}: {summary(report)}")


def summary(report: Report) -> str:
    """``2 errors, 1 warning, 3 waived`` or ``nothing wrong``."""
    parts = [count(number, word) for number, word in ((report.errors, "error"), (report.warnings, "warning")) if number]
    text = ", ".join(parts) or "nothing wrong"
    return f"{text}, {len(report.waived)} waived" if report.waived else text


def count(number: int, word: str) -> str:
    """``1 package``, ``2 packages``."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def render_report(report: Report, fmt: str, root: Path) -> str:
    """A report as text in one of FINDING_FORMATS."""
    if fmt == "table":
        return "".join(finding.text() + "\n" for finding in report.findings)
    from nexus.catalog import renderings

    if fmt == "csv":
        return output.render([renderings.record(one) for one in report.findings], "csv", renderings.COLUMNS)
    if fmt in ("json", "yaml"):
        return structured(renderings.report(report), fmt)
    from nexus.adapters import checkout

    prefix = checkout.repository_prefix(root)
    if fmt == "github":
        return "".join(line + "\n" for line in renderings.workflow_commands(report, prefix))
    import nexus

    return structured(renderings.sarif(report, nexus.__version__, prefix), "json")


def structured(value: Any, fmt: str) -> str:
    """Plain data as JSON or YAML."""
    if fmt == "json":
        import json

        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def checks_options(command: Any) -> Any:
    """``-o``, ``--strict`` and ``--fail-fast`` of everything that gives findings."""
    command = click.option("--fail-fast", is_flag=True, help="Show the first error only.")(command)
    command = click.option("--strict", is_flag=True, help="Warnings fail as errors do.")(command)
    return output.output_option(*FINDING_FORMATS)(command)


def first_only(report: Report) -> Report:
    """The report cut after its first error (or first finding, when there are no errors)."""
    from dataclasses import replace

    first = next((one for one in report.findings if one.severity == "error"), None) or next(iter(report.findings), None)
    return report if first is None else replace(report, findings=(first,))
